"""What is kept of one request: when, how it ended, and what its reply tells."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Outcome", "ReplyReader"]

_READ = re.compile(rb'"total_tokens":\s*(\d+)')
_WRITTEN = re.compile(rb'"completion_tokens":\s*(\d+)')
_ITEM_FAILED = b'"error":{'
"""Only a key is spelled so: within a text, quotation marks are escaped."""
_DONE = b"[DONE]"
_TIMINGS = {b"x-queue-time": "queue_ms", b"x-inference-time": "inference_ms"}


@dataclass(slots=True)
class Outcome:
    """One request; times are of the performance counter, in seconds."""

    start: float
    """When it was to be sent, even where no connection was free then."""
    end: float = 0.0
    status: int | None = None
    """None where there was no reply."""
    code: str | None = None
    """What went wrong; None for a success."""
    num_tokens: int = 0
    """Read by an encoder, or written by a model that writes."""
    queue_ms: float | None = None
    inference_ms: float | None = None
    batch_size: int | None = None
    first_token_s: float | None = None
    """From the start."""
    gaps_s: list[float] | None = None
    """Between the texts of a streamed reply."""

    @property
    def latency_s(self) -> float:
        """From the start to the last byte."""
        return self.end - self.start


class ReplyReader:
    """Fills an outcome from the parts of a reply, in the order in which they come."""

    def __init__(self, start: float) -> None:
        """The request was to be sent at ``start``."""
        self.outcome = Outcome(start)
        self._body = bytearray()
        self._read = 0
        """How far the lines of a stream have been read."""
        self._is_stream = False
        self._is_done = False
        self._last_text_at = 0.0

    def take_head(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Status and headers, whose names are in lower case."""
        outcome = self.outcome
        outcome.status = status
        self._is_stream = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        if b"x-batch-size" in headers:
            outcome.batch_size = int(headers[b"x-batch-size"])
        for name, field_name in _TIMINGS.items():
            if name in headers:
                setattr(outcome, field_name, float(headers[name]))

    def take_body(self, chunk: bytes, now: float) -> None:
        """A part of the body that came at ``now``."""
        self._body += chunk
        if not self._is_stream:
            return
        while (end := self._body.find(b"\n", self._read)) >= 0:
            line = bytes(self._body[self._read : end]).rstrip(b"\r")
            self._read = end + 1
            if line.startswith(b"data:"):
                self._take_event(line.removeprefix(b"data:").strip(), now)

    def finish(self, now: float) -> Outcome:
        """The reply is whole."""
        outcome = self.outcome
        outcome.end = now
        if outcome.status != 200:
            outcome.code = _code_in(bytes(self._body)) or f"http_{outcome.status}"
        elif self._is_stream:
            if outcome.code is None and not self._is_done:
                outcome.code = "broken_off"
        else:
            outcome.num_tokens = _number(_READ, self._body)
            if _ITEM_FAILED in self._body:
                outcome.code = "item_failed"
        return outcome

    def fail(self, code: str, now: float) -> Outcome:
        """There is no reply, or no whole one."""
        self.outcome.end, self.outcome.code = now, code
        return self.outcome

    @property
    def message(self) -> str | None:
        """What the service says where it refuses."""
        return _told(bytes(self._body), "message")

    def _take_event(self, data: bytes, now: float) -> None:
        if data == _DONE:
            self._is_done = True
            return
        tree = json.loads(data)
        if "error" in tree:
            self.outcome.code = tree["error"].get("code") or "failed"
        elif tree.get("usage"):
            self.outcome.num_tokens = _number(_WRITTEN, data)
        if any(_text(choice) for choice in tree.get("choices", ())):
            self._take_text(now)

    def _take_text(self, now: float) -> None:
        outcome = self.outcome
        if outcome.gaps_s is None:
            outcome.first_token_s, outcome.gaps_s = now - outcome.start, []
        else:
            outcome.gaps_s.append(now - self._last_text_at)
        self._last_text_at = now


def _text(choice: dict[str, object]) -> object:
    delta = choice.get("delta")
    return delta.get("content") if isinstance(delta, dict) else choice.get("text")


def _number(pattern: re.Pattern[bytes], body: bytes | bytearray) -> int:
    found = pattern.search(body)
    return int(found[1]) if found else 0


def _code_in(body: bytes) -> str | None:
    return _told(body, "code")


def _told(body: bytes, name: str) -> str | None:
    """A field of an error in OpenAI's shape."""
    try:
        error = json.loads(body)["error"]
        return str(error[name]) if error.get(name) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
