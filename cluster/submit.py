"""Running a recipe as a job on a Ray cluster; only the recipe itself is uploaded.

The job runs on the head node, connects to the cluster it is on, and writes its run folder where
``runs_dir`` says, which every node must be able to reach on a cluster of several machines.
"""

import asyncio
import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.state import ClusterState, default_state_dir
from ray_sft.core import ConfigError, ServeError, Tree, apply_overrides, load_tree, reason_of
from ray_sft.recipes import find_recipe

__all__ = ["entrypoint", "resolve_recipe", "submit"]

logger = logging.getLogger(__name__)

_RECIPE_FILE = "recipe.yaml"
_ENDS_WITHIN_S = 30.0
"""Between the end of a job's log and its status."""
_EMBEDDED = "embedded/"


def submit(
    recipe: Path | str,
    overrides: Sequence[str] = (),
    *,
    address: str | None = None,
    wait: bool = True,
    runs_dir: Path = Path("runs"),
    state_dir: Path | None = None,
) -> int:
    """Submits a recipe and streams the job's log; returns the job's exit status.

    ``address`` is the dashboard's URL; without it that of RAY_API_SERVER_ADDRESS or of the local
    cluster. Without ``wait`` it returns 0 as soon as the cluster has taken the job. Ctrl-C stops
    the job and raises KeyboardInterrupt.

    Raises:
        ConfigError: the recipe or an override is wrong, or names data that is not there.
        ServeError: the cluster is away or refuses.
    """
    tree = resolve_recipe(recipe, overrides)
    local = ClusterState.read(state_dir or default_state_dir())
    url = _address(address, local)
    is_local = local is not None and url == local.address
    client = _connect(url, _token(state_dir, is_local=is_local))
    with tempfile.TemporaryDirectory(prefix="ray-sft-job-") as folder:
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        (Path(folder) / _RECIPE_FILE).write_text(text, encoding="utf-8")
        command = entrypoint(runs_dir.resolve(), executable=sys.executable if is_local else None)
        job = str(_call(client.submit_job, entrypoint=command, runtime_env={"working_dir": folder}))
    logger.info("job %s is on %s", job, url)
    if not wait:
        logger.info("follow it with: ray job logs --address %s --follow %s", url, job)
        return 0
    return _follow(client, job)


def resolve_recipe(recipe: Path | str, overrides: Sequence[str]) -> dict[str, Tree]:
    """The recipe with its overrides, and with every path of this machine made absolute.

    Raises:
        ConfigError: a data file or a model folder is not there.
    """
    tree = apply_overrides(load_tree(find_recipe(str(recipe))), overrides)
    for stage in [tree, *_items(tree.get("before"))]:
        data = stage.get("data")
        for task, splits in data.items() if isinstance(data, dict) else ():
            for split, source in splits.items() if isinstance(splits, dict) else ():
                _make_absolute(source, f"data.{task}.{split}.path")
        for operation in _items(stage.get("augment")):
            for name in ("model", "there", "back"):
                _make_absolute_folder(operation, name)
            if isinstance(operation.get("cache"), str):
                operation["cache"] = str(Path(str(operation["cache"])).expanduser().absolute())
        quality = stage.get("quality")
        if isinstance(quality, dict):
            _make_absolute_folder(quality, "names")
        gate = stage.get("gate")
        if isinstance(gate, dict):
            _make_absolute_folder(gate, "classifier")
            _make_absolute_folder(gate, "embedder")
    _make_absolute_folder(tree, "model")
    return tree


def entrypoint(runs_dir: Path, *, executable: str | None) -> str:
    """The job's command line; ``executable`` is the Python to use, None where PATH decides."""
    program = [executable, "-m", "ray_sft.cli"] if executable else ["ray-sft"]
    return shlex.join([*program, "run", _RECIPE_FILE, "--runs-dir", str(runs_dir)])


def _items(found: Tree) -> list[dict[str, Tree]]:
    """The stages or operations of a list."""
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _make_absolute_folder(holder: dict[str, Tree], name: str) -> None:
    """Rewrites a model that is a folder of this machine in place."""
    model = holder.get(name)
    if isinstance(model, str) and not model.startswith(_EMBEDDED) and Path(model).is_dir():
        holder[name] = str(Path(model).resolve())


def _make_absolute(source: Tree, where: str) -> None:
    """Rewrites relative paths in place; ids of the hub, URLs and the samples stay.

    Of a list of sources, those of each.
    """
    if isinstance(source, dict) and source.get("source") == "several":
        source = source.get("sources")
    if isinstance(source, list):
        for single in source:
            _make_absolute(single, where)
        return
    if not isinstance(source, dict) or source.get("source") == "hub":
        return
    path = source.get("path")
    if not isinstance(path, str) or path.startswith(_EMBEDDED) or "://" in path:
        return
    absolute = Path(path).expanduser().absolute()
    is_glob = any(sign in path for sign in "*?[")
    if not is_glob and not absolute.exists():
        raise ConfigError(
            f"{where}: '{path}' does not exist (looked from '{Path.cwd()}'). Data is not uploaded "
            "with a job: give a path that every node can read, or a URL."
        )
    source["path"] = str(absolute)


def _address(address: str | None, local: ClusterState | None) -> str:
    url = address or os.environ.get("RAY_API_SERVER_ADDRESS") or (local and local.address)
    if not url:
        raise ServeError(
            "no cluster: none is up on this machine and no address is given. Start one with "
            "'ray-sft cluster up', or pass --address http://HOST:8265."
        )
    if not url.startswith(("http://", "https://")):
        raise ServeError(f"address '{url}' is no URL of a dashboard, such as http://HOST:8265.")
    return url.rstrip("/")


def _token(state_dir: Path | None, *, is_local: bool) -> str:
    """The token that Ray's own clients would use; the local cluster's for the local cluster."""
    if is_local:
        return _read_token((state_dir or default_state_dir()) / "auth_token")
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return _read_token(Path(named) if named else Path.home() / ".ray" / "auth_token")


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _connect(url: str, token: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return _call(JobSubmissionClient, url, headers=headers)


def _call(function: Any, *args: Any, **options: Any) -> Any:
    """Calls Ray's client; its failures become ours, with what to do about them."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        return function(*args, **options)
    except AuthenticationError as error:
        raise ServeError(
            f"the cluster refuses this token ({reason_of(error)}). Set RAY_AUTH_TOKEN_PATH to the "
            "file with the cluster's token (RAY_AUTH_TOKEN to the token itself); for a cluster on "
            "this machine 'ray-sft cluster down' and 'up' make a new start."
        ) from None
    except (ConnectionError, requests.RequestException) as error:
        raise ServeError(
            f"the cluster cannot be reached: {error} Check the address and that it is up "
            "('ray-sft cluster status' for one on this machine)."
        ) from None
    except RuntimeError as error:
        raise ServeError(f"the cluster did not take the job: {error}") from None


def _follow(client: Any, job: str) -> int:
    try:
        asyncio.run(_print_log(client, job))
        return _exit_status(client, job)
    except KeyboardInterrupt:
        logger.info("stopping job %s ...", job)
        _call(client.stop_job, job)
        _await_end(client, job)
        logger.info("job %s is stopped; submit it again to go on where it was", job)
        raise


async def _print_log(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        sys.stdout.write(text)
        sys.stdout.flush()


def _exit_status(client: Any, job: str) -> int:
    """The job's own exit status where Ray knows it, else 1 for anything but success."""
    details = _await_end(client, job)
    if str(details.status) == "SUCCEEDED":
        return 0
    logger.error("job %s: %s: %s", job, details.status, details.message)
    return int(details.driver_exit_code or 1)


def _await_end(client: Any, job: str) -> Any:
    """The details of a job that has just ended its log or been told to stop."""
    ends_at = time.monotonic() + _ENDS_WITHIN_S
    while not (details := _call(client.get_job_info, job)).status.is_terminal():
        if time.monotonic() > ends_at:
            raise ServeError(
                f"job {job} should have ended {_ENDS_WITHIN_S:g} s ago and is {details.status}. "
                f"Look at it with 'ray job logs {job}'."
            )
        time.sleep(0.2)
    return details
