"""A chat model behind an OpenAI-compatible address, written apart from ours: it shuffles words."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["ChatEndpoint", "serving_chat"]


@dataclass
class ChatEndpoint:
    """What it does and has seen."""

    port: int = 0
    key: str = ""
    """What it asks for; empty for nothing."""
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers, which are none."""
    finish_reason: str = "stop"
    quotes: str = ""
    """What it puts around every answer."""
    forgets: str = ""
    """What it leaves out of every answer."""
    seen: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"]
        text = prompt.split("\n\n", 1)[1]
        words = text.split(" ") if " " in text else list(text)
        random.Random(body["seed"]).shuffle(words)
        said = (" " if " " in text else "").join(words).replace(self.forgets or "\0", "")
        said = self.quotes[:1] + said + self.quotes[1:]
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(words)}
        return {
            "id": "answer",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": said},
                    "finish_reason": self.finish_reason,
                }
            ],
            "usage": usage | {"total_tokens": sum(usage.values())},
        }


@contextmanager
def serving_chat() -> Iterator[ChatEndpoint]:
    """One on loopback."""
    endpoint = ChatEndpoint()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                endpoint.seen.append(body)
                failure = endpoint.failures.pop(0) if endpoint.failures else None
            if endpoint.key and self.headers["authorization"] != f"Bearer {endpoint.key}":
                failure = (401, {})
            if failure:
                self._reply(failure[0], {"error": {"message": "not now"}}, failure[1])
            else:
                self._reply(200, endpoint.answer(body), {})

        def _reply(self, status: int, tree: dict[str, Any], headers: dict[str, str]) -> None:
            content = json.dumps(tree).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
