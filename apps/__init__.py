"""Pages that talk to the service over HTTP, and the client they use."""

from apps.client import AsyncClient, Client, Message, RetryPolicy, ServiceError
from apps.replies.operation import Model
from apps.replies.texts import Classification, LabelScore

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "LabelScore",
    "Message",
    "Model",
    "RetryPolicy",
    "ServiceError",
]
