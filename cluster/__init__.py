"""Where a recipe runs: a cluster on this machine, jobs on any Ray cluster, and the demo."""

from cluster.local import down, status, up
from cluster.submit import submit

__all__ = ["down", "status", "submit", "up"]
