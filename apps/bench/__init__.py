"""Loading a running service and saying how fast it answers; a client like the pages.

Example:
    >>> from apps.bench import Plan, read_texts
    >>> Plan(url="http://127.0.0.1:8000", texts=read_texts(None)).mode
    'closed'
"""

from apps.bench.command import bench_service, told
from apps.bench.plan import Plan, read_texts, seconds_in
from apps.bench.summary import Summary

__all__ = ["Plan", "Summary", "bench_service", "read_texts", "seconds_in", "told"]
