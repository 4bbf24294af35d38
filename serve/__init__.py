"""The service: bundles behind OpenAI's HTTP interface, on Ray Serve.

Example:
    >>> from serve import ServiceArgs
    >>> ServiceArgs(bundles={"intents": "runs/customer-intents/bundles/int8"}).host
    '127.0.0.1'
"""

from serve.args import ServiceArgs
from serve.run import run_service

__all__ = ["ServiceArgs", "run_service"]
