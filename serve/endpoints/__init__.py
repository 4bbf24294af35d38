"""The routes of the service, one file each; every file has a function that makes its router."""

from serve.endpoints.batches import batches_router
from serve.endpoints.chat import chat_router
from serve.endpoints.classify import classify_router
from serve.endpoints.completions import completions_router
from serve.endpoints.docs import docs_router
from serve.endpoints.embeddings import embeddings_router
from serve.endpoints.entities import entities_router
from serve.endpoints.files import files_router
from serve.endpoints.health import health_router
from serve.endpoints.inference_protocol import inference_protocol_router
from serve.endpoints.models import models_router
from serve.endpoints.rank import rank_router
from serve.endpoints.releases import releases_router
from serve.endpoints.tokenize import tokenize_router
from serve.endpoints.translate import translate_router

__all__ = [
    "batches_router",
    "chat_router",
    "classify_router",
    "completions_router",
    "docs_router",
    "embeddings_router",
    "entities_router",
    "files_router",
    "health_router",
    "inference_protocol_router",
    "models_router",
    "rank_router",
    "releases_router",
    "tokenize_router",
    "translate_router",
]
