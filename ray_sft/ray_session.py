"""Connecting to Ray: the cluster a job runs on, or one of this process's own."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

__all__ = ["cluster_cpus", "start_ray"]


def cluster_cpus() -> int:
    """CPUs of the cluster that this process is connected to."""
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


@contextmanager
def start_ray() -> Iterator[None]:
    """Ray for the time of a run: the cluster in RAY_ADDRESS, or one of this process's own.

    Where the process is connected already, that connection is used and left as it is.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address=address,
        include_dashboard=False if address == "local" else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()
