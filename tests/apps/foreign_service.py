"""A service that speaks the HTTP interface, as a real server on a port of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.apps.foreign_assistant import ForeignAssistant, assistant_routes
from tests.apps.foreign_monitor import ForeignMonitor, monitor_routes
from tests.apps.foreign_recommender import ForeignRecommender, recommender_routes
from tests.apps.serving import serving

__all__ = ["API_KEY", "ForeignService"]

API_KEY = "key-of-the-tests"
ANSWER = "Shipping is free from 30 pounds. Below that it costs 3.90 pounds."


@dataclass
class ForeignService:
    """What the server answers; a test changes the fields."""

    port: int
    models: list[dict[str, str]] = field(
        default_factory=lambda: [
            {"id": "intents", "object": "model", "task": "sequence_classification"},
            {"id": "replies", "object": "model", "task": "causal_lm"},
        ]
    )
    answer: str = ANSWER
    seconds_a_word: float = 0.0
    max_turns: int = 99
    breaks_after: int | None = None
    """Words after which the stream ends with an error event; -1: it just ends."""
    refusal: tuple[int, str, dict[str, str]] | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0
    """Streams whose client left."""
    api_key: str = API_KEY
    assistant: ForeignAssistant | None = None
    """None: the service has no such routes; so for the next two."""
    monitor: ForeignMonitor | None = None
    recommender: ForeignRecommender | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Back to what a service answers by default; what was seen stays."""
        fresh = ForeignService(self.port)
        for name in vars(self):
            if name not in ("seen", "left"):
                setattr(self, name, getattr(fresh, name))

    @contextmanager
    def running(self) -> Iterator[None]:
        with serving(_app(self), self.port):
            yield


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> Response:
    tree = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": tree}, status, headers=headers)


def _app(service: ForeignService) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Response:
        if request.url.path != "/readyz":
            if request.headers.get("authorization") != f"Bearer {API_KEY}":
                return _error(401, "the API key is wrong.", "invalid_api_key")
            if service.refusal:
                status, message, headers = service.refusal
                return _error(status, message, "refused", headers)
        response: Response = await call_next(request)
        return response

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": service.models}

    @app.post("/v1/classify")
    async def classify(request: Request) -> dict[str, Any]:
        body = await request.json()
        service.seen.append(body)
        scores = [("delivery_cost", 0.87), ("track_order", 0.06), ("<b>invoice</b>", 0.03)]
        ranked = [{"label": label, "score": score} for label, score in scores][: body["top_k"]]
        answer = {"index": 0, **ranked[0], "scores": ranked}
        return {"model": "intents", "data": [answer], "usage": {"total_tokens": 5}}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        service.seen.append(body)
        if len(body["messages"]) > service.max_turns:
            return _error(400, "the conversation is too long.", "context_length_exceeded")
        return StreamingResponse(_events(service), media_type="text/event-stream")

    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, str(error.detail), "refused", dict(error.headers or {}))

    if service.assistant is not None:
        app.include_router(assistant_routes(service.assistant))
    if service.monitor is not None:
        app.include_router(monitor_routes(service.monitor))
    if service.recommender is not None:
        app.include_router(recommender_routes(service.recommender))
    return app


async def _events(service: ForeignService) -> AsyncIterator[bytes]:
    def event(tree: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(tree, ensure_ascii=False).encode() + b"\n\n"

    finished = False
    try:
        yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for index, word in enumerate(service.answer.split(" ")):
            if index == service.breaks_after:
                yield event({"error": {"message": "the model failed.", "code": "failed"}})
                return
            text = word if index == 0 else f" {word}"
            yield event({"choices": [{"index": 0, "delta": {"content": text}}]})
            await asyncio.sleep(service.seconds_a_word)
        if service.breaks_after != -1:
            yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            yield event({"choices": [], "usage": {"total_tokens": 9}})
            yield b"data: [DONE]\n\n"
        finished = True
    finally:
        if not finished:
            service.left += 1
