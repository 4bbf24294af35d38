"""Limits of keys: requests and tokens a minute, requests at the same time.

`LocalQuotas` counts in one process and is exact; `serve.quotas.shared` lets several replicas
share one account of each key.

Example:
    >>> from serve.keys import KeyLimits
    >>> from serve.quotas import LocalQuotas
    >>> quotas = LocalQuotas(KeyLimits(requests_per_minute=60))
"""

from serve.quotas.account import Ticket
from serve.quotas.local import LocalQuotas, Quotas

__all__ = ["LocalQuotas", "Quotas", "Ticket"]
