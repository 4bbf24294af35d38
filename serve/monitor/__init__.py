"""The opinion monitor: what is said on a topic, how it feels, and when that turns for the worse.

Example:
    >>> from serve.monitor import MonitorArgs
    >>> MonitorArgs(model="market").bucket_s
    3600
"""

from serve.monitor.args import AlertArgs, MonitorArgs
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Analyse, Opinion
from serve.monitor.store import Store
from serve.monitor.webhook import SECRET_VARIABLE, webhook_secret

__all__ = [
    "SECRET_VARIABLE",
    "AlertArgs",
    "Analyse",
    "Monitor",
    "MonitorArgs",
    "Opinion",
    "Store",
    "webhook_secret",
]
