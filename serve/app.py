"""The service as a Ray Serve application: one deployment whose replicas do everything each.

``build_app`` is a typed builder: `serve deploy` and `serve run serve.app:build_app` validate their
``args`` against `ServiceArgs`. What a running replica can take up is the deployment's
``user_config`` (`serve.release.Wanted`); everything else makes the deployment's version, and a new
version replaces replicas, one more being started before an old one ends.
"""

import asyncio
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from ray_sft.bundle import Manifest
from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.batches.worker import BatchRunner
from serve.ingress import bare_api, create_app
from serve.keys import ENVIRONMENT_VARIABLE, KeyRing, load_keys
from serve.loading import Loader
from serve.logs import log_as_json
from serve.metrics import ServiceMetrics
from serve.models import load_models
from serve.probe import Probe
from serve.prompt_log import show_prompts
from serve.quotas import Quotas
from serve.quotas.actor import shared_quotas
from serve.release import Wanted
from serve.release.counters import ReleaseCounters
from serve.release.plan import deployment_version
from serve.release.report import ReplicaReport
from serve.release.swap import Swapper
from serve.release.swappable import holders
from serve.scaling import Autoscaling

__all__ = ["APP_NAME", "Configuration", "Service", "bind_app", "build_app"]

APP_NAME = "ray-sft"

_MAX_ONGOING_REQUESTS = 1024
"""Above what any queue of ours admits: back-pressure is ours, with a status and a Retry-After."""
_DRAINING_S = 10.0
"""What a replica needs to end beside its longest request: to be taken out of the proxy's list,
which is two seconds, and to close."""
_SIBLINGS_ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a replica is made of."""

    args: ServiceArgs
    """As it serves now, with the fingerprints of its bundles."""
    keys: KeyRing
    manifests: dict[str, Manifest]
    """Of its bundles, by model name."""


@serve.ingress()
class Service:
    """Tokenises, batches, runs and replies in one process."""

    def __init__(self, args: ServiceArgs, keys: KeyRing) -> None:
        """Loads, checks and warms every bundle; Ray sends no request before this returns."""
        if args.log_format == "json":
            log_as_json()
        if args.log_prompts:
            show_prompts()
        self.args = args
        self.keys = keys
        self.metrics = ServiceMetrics()
        self.replica = serve.get_replica_context().replica_tag
        # ONNX Runtime heeds neither OMP_NUM_THREADS nor Ray's share of the machine
        context = ray.get_runtime_context()
        assigned: float = context.get_assigned_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call] # Ray's
        num_threads = max(1, int(assigned))
        self.models = load_models(args, num_threads=num_threads, metrics=self.metrics)
        self.swapper = Swapper(
            self.models,
            Loader(args, num_threads=num_threads, metrics=self.metrics),
            ReleaseCounters(self.metrics.registry),
            wanted=args.wanted,
            held=holders(args),
            replica=self.replica,
        )
        self.swapper.open()
        self.probe = Probe(self.models, interval_s=args.health_sample_interval_s)
        self._swaps: set[asyncio.Task[None]] = set()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application that Ray's HTTP server runs; that server adds x-request-id itself."""
        return create_app(
            self.args,
            models=self.models,
            keys=self.keys,
            metrics=self.metrics,
            adds_request_id=False,
            quotas=self._quotas(),
            reports=self._reports,
            batches=self._batches(),
        )

    async def reconfigure(self, wanted: dict[str, Any]) -> None:
        """Begins to take up what Ray's ``user_config`` says, and returns at once.

        Ray takes a replica out of service until this returns, and replaces it where it raises; so
        the work is done beside the requests, and what went wrong stands in `release_report`.
        """
        try:
            found = Wanted.model_validate(wanted)
        except ValidationError as error:
            self.swapper.refuse(f"user_config is not valid: {error}")
            return
        task = asyncio.create_task(self.swapper.apply(found))
        self._swaps.add(task)
        task.add_done_callback(self._swaps.discard)

    async def check_health(self) -> None:
        """Raises where a model does not answer its own sample any more; Ray asks every 10 s."""
        await self.probe.check()

    async def release_report(self) -> dict[str, Any]:
        """What this replica serves; for its siblings and for ``ray-sft deploy``."""
        return self.swapper.report().model_dump(mode="json")

    async def configuration(self) -> Configuration:
        """What this replica serves, with what nobody else may know; for ``ray-sft deploy``."""
        served = self.swapper.served
        fingerprints = {name: one.fingerprint for name, one in self.models.bundles.items()}
        releases = {
            name: arms.release.model_copy(update={"fingerprint": arms.candidate.fingerprint})
            for name, arms in self.models.arms.items()
        }
        known = {**served.model_dump(), "fingerprints": fingerprints, "releases": releases}
        return Configuration(
            args=self.args.model_copy(update=known),
            keys=self.keys,
            manifests={name: one.bundle.manifest for name, one in self.models.bundles.items()},
        )

    def _quotas(self) -> Quotas | None:
        if self.args.most_replicas == 1:
            return None
        return shared_quotas(APP_NAME, self.replica, self.args.key_limits)

    def _batches(self) -> BatchRunner | None:
        if self.args.batches is None:
            return None
        # brings Ray Data, whose seconds and memory are spared where there are no batches
        from serve.batches.actor import ActorRunner

        return ActorRunner(f"{APP_NAME}-batches", self.args, bare_api)

    async def _reports(self) -> Sequence[ReplicaReport]:
        if self.args.most_replicas == 1:
            return [self.swapper.report()]
        context = serve.get_replica_context()
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        found = await handle.broadcast("release_report").results_async(
            timeout_s=_SIBLINGS_ANSWER_WITHIN_S, return_exceptions=True
        )
        return [ReplicaReport.model_validate(one) for one in found if isinstance(one, dict)]


def build_app(args: ServiceArgs) -> serve.Application:
    """The application for ``args``, to be given to `serve.run` or `serve deploy`.

    Raises:
        ServeError: there is no key to open the service with.
    """
    path = Path(args.keys_file).expanduser()
    keys = load_keys(path, os.environ)
    if not keys.keys:
        raise ServeError(
            f"the service has no key: '{path}' does not exist and {ENVIRONMENT_VARIABLE} is not "
            "set. Set one of them; 'ray-sft serve' makes a key by itself."
        )
    return bind_app(args, keys)


def bind_app(args: ServiceArgs, keys: KeyRing) -> serve.Application:
    """The application for ``args`` and ``keys``; of equal version where replicas can stay."""
    scaling = args.autoscaling
    place = serve.deployment(
        name="service",
        num_replicas=args.replicas if scaling is None else None,
        autoscaling_config=None if scaling is None else _autoscaling(scaling),
        max_surge_percent=args.max_surge_percent,
        user_config=args.wanted.model_dump(mode="json"),
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_constructor_retry_count=1,  # a bundle that fails its check fails it again
        ray_actor_options={"num_cpus": args.num_cpus},
        graceful_shutdown_timeout_s=args.request_timeout_s + _DRAINING_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=10.0,
        health_check_timeout_s=30.0,
        # one line a request costs a tenth of a short request; ours log what went wrong
        logging_config=LoggingConfig(
            enable_access_log=False, encoding="JSON" if args.log_format == "json" else "TEXT"
        ),
    )
    # Ray gives every call of serve.run a version of its own, so that nothing could be changed
    # without replacing replicas; the configuration files that it reads it hashes just like this
    deployment = place(Service).options(version=deployment_version(args), _internal=True)
    return deployment.bind(args, keys)


def _autoscaling(scaling: Autoscaling) -> AutoscalingConfig:
    timing = scaling.timing
    with warnings.catch_warnings():
        # the interval may be given by the environment alone in Ray to come, which is the cluster's
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            target_ongoing_requests=scaling.target_ongoing_requests,
            metrics_interval_s=timing.metrics_interval_s,
            look_back_period_s=timing.look_back_period_s,
            upscale_delay_s=timing.upscale_delay_s,
            downscale_delay_s=timing.downscale_delay_s,
            aggregation_function=timing.aggregation,
        )
