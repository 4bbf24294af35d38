"""`GET /v1/models`: what this service can be asked, in OpenAI's shape."""

from fastapi import APIRouter

from serve.errors import ApiError
from serve.models import Models

__all__ = ["models_router"]


def models_router(models: Models) -> APIRouter:
    """The routes, describing ``models``."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="List models")
    async def list_models() -> dict[str, object]:
        """Every model with its task, variant and fingerprint."""
        return {"object": "list", "data": models.describe()}

    @router.get("/v1/models/{model:path}", summary="Describe a model")
    async def describe_model(model: str) -> dict[str, object]:
        """One model with its task, variant and fingerprint."""
        for description in models.describe():
            if description["id"] == model:
                return description
        raise ApiError(
            404,
            f"model '{model}' does not exist. This service has: {', '.join(models.names)}.",
            code="model_not_found",
            param="model",
        )

    return router
