"""The service's HTTP interface as Python, typed; it knows nothing of the service but its URL.

Example:
    >>> from apps.client import Client
    >>> with Client("http://127.0.0.1:8000", api_key="rsft-...") as client:
    ...     client
    <Client of http://127.0.0.1:8000>
"""

from apps.client.client import AsyncClient, Client
from apps.client.errors import ServiceError
from apps.client.generation import Message
from apps.client.retries import RetryPolicy
from apps.client.streams import AsyncStream, Stream

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Client",
    "Message",
    "RetryPolicy",
    "ServiceError",
    "Stream",
]
