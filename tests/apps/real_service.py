"""The service's own routes for assistant, monitor and recommendation, on models of words."""

import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray

from ray_sft.core import ServeError
from serve.assistant import AssistantArgs
from serve.assistant.assistant import Assistant, IntentGuess
from serve.endpoints.assistant import assistant_router
from serve.endpoints.monitor import monitor_router
from serve.endpoints.recommend import recommend_router
from serve.errors import ApiError, error_body
from serve.monitor import MonitorArgs
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Opinion
from serve.monitor.store import Store as MonitorStore
from serve.recommend import RecommendArgs
from serve.recommend.recommender import Recommender
from serve.recommend.store import Store as RecommendStore

__all__ = ["build_real_service"]

_DIM = 128
_FINGERPRINT = "a" * 64


def build_real_service(folder: Path) -> FastAPI:
    """All three applications, with their data in ``folder``."""
    assistant = Assistant(
        AssistantArgs(embedding_model="words", knowledge=str(folder / "knowledge.lance")),
        embed=_embed,
        embedding_fingerprint=_FINGERPRINT,
        classify=_classify,
    )
    monitor_args = MonitorArgs(
        model="words", database=f"sqlite:///{folder}/monitor.db", bucket_s=86_400
    )
    monitor = Monitor(_read, MonitorStore(monitor_args), monitor_args)
    recommend_args = RecommendArgs(
        embedding_model="words", database=f"sqlite:///{folder}/recommend.db"
    )
    recommender = Recommender(
        recommend_args,
        store=RecommendStore.open(recommend_args.database),
        embed=_embed,
        fingerprint=_FINGERPRINT,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for application in (assistant, monitor, recommender):
                await application.open()
                stack.push_async_callback(application.close)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Response:
        return Response(error_body(error), status_code=error.status, headers=error.headers)

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/v1/models")
    async def models() -> dict[str, list[str]]:
        return {"data": []}

    app.include_router(assistant_router(assistant))
    app.include_router(monitor_router(monitor))
    app.include_router(recommend_router(recommender))
    return app


async def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Words hashed into a vector of length 1."""
    vectors = np.zeros((len(texts), _DIM), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.strip("?.,!").encode()) % _DIM] += 1.0
    return vectors / np.maximum(1e-9, np.linalg.norm(vectors, axis=1, keepdims=True))


async def _classify(question: str) -> IntentGuess:
    return IntentGuess("delivery" if "delivery" in question else "other", 0.8, (("refund", 0.1),))


async def _read(texts: Sequence[str]) -> list[Opinion | ServeError]:
    return [_opinion(text) for text in texts]


def _opinion(text: str) -> Opinion:
    main = "negative" if "bad" in text else "positive" if "good" in text else "neutral"
    shares = {name: 0.8 if name == main else 0.1 for name in ("negative", "neutral", "positive")}
    return Opinion("chips", 0.9, shares)
