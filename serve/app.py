"""The service as a Ray Serve application: one deployment whose replica does everything.

``build_app`` is a typed builder: `serve deploy` and `serve run serve.app:build_app` validate their
``args`` against `ServiceArgs`.
"""

import os
from pathlib import Path

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import ENVIRONMENT_VARIABLE, KeyRing, load_keys
from serve.metrics import ServiceMetrics
from serve.models import load_models

__all__ = ["APP_NAME", "Service", "build_app"]

APP_NAME = "ray-sft"

_MAX_ONGOING_REQUESTS = 1024
"""Above what any queue of ours admits: back-pressure is ours, with a status and a Retry-After."""


@serve.ingress()
class Service:
    """Tokenises, batches, runs and replies in one process."""

    def __init__(self, args: ServiceArgs, keys: KeyRing) -> None:
        """Loads and checks every bundle; Ray sends no request before this returns."""
        self.args = args
        self.keys = keys
        self.metrics = ServiceMetrics()
        # ONNX Runtime heeds neither OMP_NUM_THREADS nor Ray's share of the machine
        context = ray.get_runtime_context()
        assigned: float = context.get_assigned_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call] # Ray's
        self.models = load_models(args, num_threads=max(1, int(assigned)), metrics=self.metrics)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application that Ray's HTTP server runs; that server adds x-request-id itself."""
        return create_app(
            self.args,
            models=self.models,
            keys=self.keys,
            metrics=self.metrics,
            adds_request_id=False,
        )


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
    place = serve.deployment(
        name="service",
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_constructor_retry_count=1,  # a bundle that fails its check fails it again
        ray_actor_options={"num_cpus": args.num_cpus},
        graceful_shutdown_timeout_s=min(args.request_timeout_s, 20.0),
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=10.0,
        health_check_timeout_s=30.0,
        # one line a request costs a tenth of a short request; ours log what went wrong
        logging_config=LoggingConfig(enable_access_log=False),
    )
    return place(Service).bind(args, keys)
