"""Pages that talk to the service over HTTP, and the client they use."""

from apps.client import Message, ServiceClient, ServiceError
from apps.replies.models import Classification, LabelScore, Model

__all__ = [
    "Classification",
    "LabelScore",
    "Message",
    "Model",
    "ServiceClient",
    "ServiceError",
]
