"""One question to every endpoint of a service, and to the page; what does not answer is named."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ray_sft.core import ServeError

__all__ = ["Answer", "ask_everything", "await_ready"]

_QUESTION_EN = "How much is delivery to Leeds?"
_QUESTION_ZH = "怎么重置密码\uff1f"
_TIMEOUT_S = 60.0

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said."""

    endpoint: str
    question: str
    text: str
    seconds: float


class _Score(BaseModel):
    label: str
    score: float


class _Classifications(BaseModel):
    data: list[_Score]


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice]


def await_ready(url: str, *, timeout_s: float, check: Callable[[], None]) -> None:
    """Returns when ``url`` answers 200; ``check`` is called meanwhile and may raise.

    Raises:
        ServeError: it does not within ``timeout_s``.
    """
    ends_at = time.monotonic() + timeout_s
    seen = "no answer"
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < ends_at:
            check()
            try:
                reply = client.get(url)
            except httpx.HTTPError as error:
                seen = str(error)
            else:
                if reply.status_code == 200:
                    return
                seen = f"status {reply.status_code}"
            time.sleep(0.2)
    raise ServeError(f"{url} did not answer within {timeout_s:g} s (last seen: {seen}).")


def ask_everything(service_url: str, page_url: str, *, api_key: str) -> list[Answer]:
    """The answer of every endpoint, in the order a visitor would try them.

    Raises:
        ServeError: one refuses, answers in another shape, or streams another text than it gives
            at once.
    """
    headers = {"authorization": f"Bearer {api_key}"}
    with httpx.Client(
        base_url=service_url, headers=headers, trust_env=False, timeout=_TIMEOUT_S
    ) as client:
        answers = [
            _get(client, "/healthz"),
            _get(client, "/readyz"),
            _get(client, "/v1/models", show=_model_names),
            _classify(client, _QUESTION_EN),
            _classify(client, _QUESTION_ZH),
            *_chat_both_ways(client, _QUESTION_EN),
            _get(client, "/metrics", show=_count_figures),
            _get(client, "/docs", show=_size),
        ]
    with httpx.Client(base_url=page_url, trust_env=False, timeout=_TIMEOUT_S) as client:
        return [*answers, _get(client, "/", show=_size, name="the page")]


def _get(
    client: httpx.Client, path: str, *, show: Callable[[str], str] = str.strip, name: str = ""
) -> Answer:
    began = time.monotonic()
    text = _checked(client.get(path), path).text
    return Answer(name or f"GET {path}", "", show(text), time.monotonic() - began)


def _classify(client: httpx.Client, question: str) -> Answer:
    path = "/v1/classify"
    began = time.monotonic()
    reply = _checked(client.post(path, json={"input": question}), path)
    top = _parse(_Classifications, reply.text, path).data[0]
    seconds = time.monotonic() - began
    return Answer(f"POST {path}", question, f"{top.label} ({top.score:.0%})", seconds)


def _chat_both_ways(client: httpx.Client, question: str) -> list[Answer]:
    path = "/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 96}
    began = time.monotonic()
    reply = _checked(client.post(path, json=body), path)
    whole = _parse(_Completion, reply.text, path).choices[0].message.content
    middle = time.monotonic()
    with client.stream("POST", path, json=body | {"stream": True}) as stream:
        if stream.is_error:
            stream.read()
        _checked(stream, path)
        streamed = "".join(_pieces(stream))
    end = time.monotonic()
    if not whole.strip():
        raise ServeError(f"{path}: the model wrote nothing.")
    if streamed != whole:
        raise ServeError(f"{path}: streamed {streamed!r}, but at once {whole!r}.")
    return [
        Answer(f"POST {path}", question, whole, middle - began),
        Answer(f"POST {path}, streamed", question, streamed, end - middle),
    ]


def _pieces(stream: httpx.Response) -> list[str]:
    pieces: list[str] = []
    for line in stream.iter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:"):
            continue
        if data == "[DONE]":
            return pieces
        event = json.loads(data)
        if "error" in event:
            raise ServeError(f"the streamed reply failed: {event['error']['message']}")
        pieces += [choice["delta"].get("content") or "" for choice in event["choices"]]
    raise ServeError("the streamed reply broke off without [DONE].")


def _checked(reply: httpx.Response, path: str) -> httpx.Response:
    if reply.is_success:
        return reply
    raise ServeError(f"{path} answered {reply.status_code}: {reply.text[:300]}")


def _parse(kind: type[R], text: str, path: str) -> R:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ServeError(f"{path} answered in another shape: {error}") from None


def _model_names(text: str) -> str:
    return ", ".join(f"{model['id']} ({model['task']})" for model in json.loads(text)["data"])


def _count_figures(text: str) -> str:
    count = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
    return f"{count} figures"


def _size(text: str) -> str:
    return f"{len(text.encode()) / 1e3:.0f} kB of HTML"
