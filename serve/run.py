"""Running the service on this machine: its own Ray, one process to stop, nothing left behind.

Ray Serve and its proxy are steered by environment variables that are read when they are imported,
so nothing here imports them at the top, and a process that has started Ray already is refused.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import httpx

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.keys import add_key, load_keys
from serve.processes import children, end_leftovers
from serve.proxy import check_port, proxy_settings
from serve.proxy_keeper import ProxyKeeper
from serve.release.address import ServiceAddress, announced
from serve.signals import Signals, deaf_to_signals

__all__ = ["run_service"]

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least; requests do not pass through it."""


def run_service(args: ServiceArgs, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serves until SIGINT or SIGTERM; ``on_ready`` is called with the URL once it answers.

    Raises:
        BundleError: a bundle is missing or damaged.
        ServeError: the port is taken, or the service does not become ready.
    """
    check_port(args.host, args.port)
    for path in (*args.bundles.values(), *(one.bundle for one in args.releases.values())):
        Bundle.open(path)
    _check_process()
    _ensure_key(args)
    # entered by nobody else, since it holds the proxy's admin socket; and with a short name, since
    # the path of a socket may have 107 bytes, of which Ray's part takes most
    folder = Path(tempfile.mkdtemp(prefix="ray-sft-", dir="/tmp"))
    os.environ.update(proxy_settings(args, folder))
    # Ray lowers what it starts by 15: replicas would give way to anything else on the machine
    os.environ.setdefault("RAY_worker_niceness", "0")
    others = children()
    try:
        with Signals() as signals:
            _serve(args, folder, signals, on_ready)
    except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit while it starts
        logger.info("the service is stopped")
    finally:
        with deaf_to_signals():
            started = children() - others
            _stop(args)
            end_leftovers(started, folder)
            shutil.rmtree(folder, ignore_errors=True)


def _serve(
    args: ServiceArgs,
    folder: Path,
    signals: Signals,
    on_ready: Callable[[str], None] | None,
) -> None:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    address = _ray_address(args)
    if address == "local":
        ray.init(
            address="local",
            # room for the replicas that an update starts before it ends others; they share the
            # machine's processors for that while
            num_cpus=args.num_cpus * (args.most_replicas + args.surge_replicas)
            + (args.batches.most_cpus if args.batches else 0),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=str(folder / "ray"),
        )
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    signals.hear()  # Ray has put its own handlers in their place
    signals.check()
    serve.start(
        http_options=HTTPOptions(host=args.host, port=args.port),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    signals.check()
    # not before Ray is started, which forks: LanceDB has threads that do not outlive a fork
    from serve.app import APP_NAME, build_app

    try:
        serve.run(build_app(args), name=APP_NAME, route_prefix="/")
    except RuntimeError as error:
        raise ServeError(f"the service did not start: {_reason(error)}") from error
    signals.check()
    url = f"http://{_reachable(args.host)}:{args.port}"
    _await_ready(url, args.startup_timeout_s)
    _check_candidates(args)
    logger.info("serving %s on %s", ", ".join(args.bundles), url)
    service = ServiceAddress(
        ray_address=ray.get_runtime_context().gcs_address, url=url, pid=os.getpid()
    )
    is_ours = address == "local" and args.proxy == "haproxy"
    keeper = ProxyKeeper() if is_ours else nullcontext()
    with keeper, announced(service, args.port):
        if on_ready is not None:
            on_ready(url)
        signals.wait()


def _check_candidates(args: ServiceArgs) -> None:
    """Raises ServeError where a replica goes without one, which `deploy` would go back from."""
    if not args.releases:
        return
    from ray import serve

    from serve.app import APP_NAME

    reports = serve.get_app_handle(APP_NAME).broadcast("release_report").results(timeout_s=30)
    for report in reports:
        if report["state"] == "failed":
            raise ServeError(f"the service did not start: {report['problem']}")


def _check_process() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise ServeError(
            "this process uses Ray already, whose settings differ from those of a service. "
            "Start the service in a process of its own: ray-sft serve."
        )


def _ensure_key(args: ServiceArgs) -> None:
    path = Path(args.keys_file).expanduser()
    if load_keys(path, os.environ).keys:
        return
    token = add_key(path, name="first")
    # shown once and kept nowhere, so not through the log, which may go to a file
    sys.stderr.write(f"New API key, shown this once (its hash is in {path}):\n  {token}\n")
    sys.stderr.flush()


def _ray_address(args: ServiceArgs) -> str:
    if args.ray_address != "local":
        return args.ray_address
    return os.environ.get("RAY_ADDRESS", "local")


def _reachable(host: str) -> str:
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{named}]" if ":" in named and not named.startswith("[") else named


def _await_ready(url: str, timeout_s: float) -> None:
    ends_at = time.monotonic() + timeout_s
    seen = "no answer"
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < ends_at:
            try:
                reply = client.get(f"{url}/readyz")
            except httpx.HTTPError as error:
                seen = str(error)
            else:
                if reply.status_code == 200:
                    return
                seen = f"status {reply.status_code}: {reply.text[:200]}"
            time.sleep(0.05)
    raise ServeError(
        f"the service did not become ready within {timeout_s:g} s (last seen: {seen}). "
        "A large model needs a longer startup_timeout_s."
    )


def _reason(error: RuntimeError) -> str:
    """What our own code said, out of Ray's account of it, or Ray's last words."""
    from ray import serve

    from serve.app import APP_NAME

    status = serve.status().applications.get(APP_NAME)
    said = [item.message for item in status.deployments.values()] if status else []
    lines = [line.strip() for line in "\n".join(said).splitlines() if "Error: " in line]
    return lines[-1] if lines else str(error)


def _stop(args: ServiceArgs) -> None:
    """Ends Serve and Ray, as far as they have come."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        from ray import serve

        from serve.app import APP_NAME

        try:
            if _ray_address(args) == "local":
                serve.shutdown()  # type: ignore[no-untyped-call] # untyped in Ray
            else:
                serve.delete(APP_NAME)
        finally:
            ray.shutdown()
