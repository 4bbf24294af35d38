"""The routes of the service, one file each; every file has a function that makes its router."""

from serve.endpoints.chat import chat_router
from serve.endpoints.classify import classify_router
from serve.endpoints.docs import docs_router
from serve.endpoints.health import health_router
from serve.endpoints.models import models_router

__all__ = ["chat_router", "classify_router", "docs_router", "health_router", "models_router"]
