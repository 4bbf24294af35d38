"""The service's HTTP interface as Python, typed; it knows nothing of the service but its URL."""

from apps.client.service import Message, ServiceClient
from apps.client.transport import ServiceError

__all__ = ["Message", "ServiceClient", "ServiceError"]
