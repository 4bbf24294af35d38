"""The running service as the command that deploys sees it, and the one behind Ray.

A driver within the cluster is needed: on a node, or as a job (``ray job submit -- ray-sft
deploy``). What is deployed belongs to Ray Serve and stays when the driver ends.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from ray_sft.bundle import Manifest
from ray_sft.core import ServeError, reason_of
from serve.args import ServiceArgs
from serve.keys import KeyRing
from serve.release.report import ReplicaReport

__all__ = ["RayTarget", "Serving", "Target", "TargetStatus", "connected"]

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["missing", "updating", "running", "failed"]

_STATES: dict[str, State] = {"RUNNING": "running", "DEPLOY_FAILED": "failed"}

_ANSWERS_WITHIN_S = 10.0
_STARTS_WITHIN_S = 180.0
"""A service that has scaled to zero starts a replica to answer."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A service at one moment."""

    state: State
    """As Ray sees it: ``failed`` where an update was given up."""
    message: str
    """What Ray says of it."""
    replicas: tuple[ReplicaReport, ...]
    """Every replica that takes requests and answers."""
    num_starting: int = 0
    """Replicas that take no requests yet."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a service serves."""

    args: ServiceArgs
    """With the fingerprints of its bundles."""
    manifests: dict[str, Manifest]
    """Of its bundles, by model name; their folders may hold others by now."""


class Target(Protocol):
    """Where a service runs."""

    def current(self) -> Serving | None:
        """What is served; None where nothing is.

        Raises:
            ServeError: it does not tell.
        """

    def check_room(self, args: ServiceArgs) -> None:
        """Raises ServeError where a rolling update to ``args`` cannot start a replica."""

    def apply(self, args: ServiceArgs) -> None:
        """Begins to change the service to ``args`` and returns.

        Raises:
            ServeError: Ray does not take it.
        """

    def status(self) -> TargetStatus:
        """The service as it is."""

    def remove(self) -> None:
        """Takes the service away."""


class RayTarget:
    """The application on the Ray that this process is connected to."""

    def __init__(self) -> None:
        """Looks for it later."""
        self._keys: KeyRing | None = None

    def current(self) -> Serving | None:
        """See `Target.current`."""
        if self.status().state == "missing":
            return None
        from ray import serve

        from serve.app import APP_NAME

        try:
            handle = serve.get_app_handle(APP_NAME)
            found = handle.configuration.remote().result(timeout_s=_STARTS_WITHIN_S)
            self._keys = found.keys
        except Exception as error:  # Ray's and pydantic's; whatever it is, nothing is known
            raise ServeError(
                f"the running service does not tell what it serves: {reason_of(error)}. Was it "
                "started by another version of ray-sft? Start it again with this one."
            ) from error
        return Serving(found.args, found.manifests)

    def check_room(self, args: ServiceArgs) -> None:
        """See `Target.check_room`."""
        import ray

        if not args.max_surge_percent:
            return
        available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        free = available.get("CPU", 0.0)
        if free < args.num_cpus:
            raise ServeError(
                f"this is a rolling update, which starts a replica of {args.num_cpus} CPUs before "
                f"it ends an old one; the cluster has {free:g} CPUs free. "
                "Make room, or set max_surge_percent: 0, with which a service of one replica is "
                "away while the new one loads."
            )

    def apply(self, args: ServiceArgs) -> None:
        """See `Target.apply`."""
        from ray import serve
        from ray.serve.config import HTTPOptions
        from ray.serve.schema import LoggingConfig

        from serve.app import APP_NAME, bind_app, build_app

        if self.status().state == "missing":
            serve.start(
                http_options=HTTPOptions(host=args.host, port=args.port),
                logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
            )
        # a running service keeps its keys, which may be others than this user's
        application = build_app(args) if self._keys is None else bind_app(args, self._keys)
        target = serve.RunTarget(application, name=APP_NAME, route_prefix="/")
        try:
            serve.run_many([target], wait_for_applications_running=False)
        except RuntimeError as error:
            raise ServeError(f"Ray Serve does not take the release: {reason_of(error)}") from error

    def status(self) -> TargetStatus:
        """See `Target.status`."""
        from ray import serve

        from serve.app import APP_NAME

        found = serve.status().applications.get(APP_NAME)
        if found is None or found.status.value in ("NOT_STARTED", "DELETING"):
            return TargetStatus("missing", "", ())
        messages = [found.message, *(one.message for one in found.deployments.values())]
        counts = [one.replica_states for one in found.deployments.values()]
        starting = sum(
            number for one in counts for state, number in one.items() if state == "STARTING"
        )
        return TargetStatus(
            _STATES.get(found.status.value, "updating"),
            "\n".join(message for message in messages if message),
            tuple(self._reports()),
            starting,
        )

    def remove(self) -> None:
        """See `Target.remove`."""
        from ray import serve

        from serve.app import APP_NAME

        serve.delete(APP_NAME)

    def _reports(self) -> Sequence[ReplicaReport]:
        from ray import serve

        from serve.app import APP_NAME

        try:
            handle = serve.get_app_handle(APP_NAME)
            found = handle.broadcast("release_report").results(
                timeout_s=_ANSWERS_WITHIN_S, return_exceptions=True
            )
            return [ReplicaReport.model_validate(one) for one in found if isinstance(one, dict)]
        except Exception:  # Ray's, of several kinds, while no replica takes requests
            logger.debug("no replica answers", exc_info=True)
            return []


@contextmanager
def connected(address: str) -> Iterator[RayTarget]:
    """A target on the Ray at ``address``, within the context.

    Raises:
        ServeError: no Ray answers there.
    """
    if "RAY_AUTH_MODE" not in os.environ and (Path.home() / ".ray" / "auth_token").is_file():
        os.environ["RAY_AUTH_MODE"] = "token"  # read when Ray is imported; it sends none unasked
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ServeError(
            f"no Ray answers at '{address}': {reason_of(error)}. Give the address of the cluster "
            "with --address, from one of its nodes."
        ) from error
    # Ray Serve sets the level of its logger whenever it is used; these are its affairs, not news
    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        yield RayTarget()
    finally:
        ray.shutdown()
