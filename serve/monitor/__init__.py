"""The opinion monitor: what is said on a topic, how it feels, and when that turns for the worse.

The door holds what a service is configured with, and loads no database.

Example:
    >>> from serve.monitor import MonitorArgs
    >>> MonitorArgs(model="market").bucket_s
    3600
"""

from serve.monitor.args import AlertArgs, MonitorArgs

__all__ = ["AlertArgs", "MonitorArgs"]
