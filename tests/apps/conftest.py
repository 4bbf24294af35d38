"""A service that speaks the HTTP interface, as a real server on a port of its own."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Back to what a service answers by default; what was seen stays."""
        fresh = ForeignService(self.port)
        for name in vars(self):
            if name not in ("seen", "left"):
                setattr(self, name, getattr(fresh, name))

    @staticmethod
    def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        ends_at = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < ends_at, "did not happen in time"
            time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator[None]:
        config = uvicorn.Config(
            _app(self),
            host="127.0.0.1",
            port=self.port,
            log_level="error",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        self.wait_until(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()


@pytest.fixture(name="free_port")
def _free_port_fixture() -> int:
    return _free_port()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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


@pytest.fixture(scope="session")
def make_service() -> Callable[[], ForeignService]:
    """Makes services that do not run yet."""
    return lambda: ForeignService(_free_port())


@pytest.fixture
def foreign_service() -> Iterator[ForeignService]:
    """A running service."""
    service = ForeignService(_free_port())
    with service.running():
        yield service
