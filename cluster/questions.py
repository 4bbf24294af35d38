"""One question to every endpoint of a service, and to the page; what does not answer is named."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import httpx

from ray_sft.core import ServeError

__all__ = ["TIMEOUT_S", "Answer", "Question", "ask", "ask_everything", "await_ready", "client_for"]

TIMEOUT_S = 60.0

_REPLY_MODEL = "customer_replies"
_QUESTION_EN = "How much is delivery to Leeds?"
_QUESTION_ZH = "怎么重置密码\uff1f"
_ELSEWHERE = "Which planet has the most moons?"
_TOPIC = "chips"
_NEWS = "Petrona shares slump after the regulator opens an investigation."
_HISTORY = ["Stovetop Kettle 1.7 L", "Ceramic teapot with a strainer"]
_CANDIDATES = ["Loose leaf tea caddy", "Trail running shoes"]

Shown: TypeAlias = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said."""

    endpoint: str
    question: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Question:
    """What an endpoint is asked."""

    method: Literal["GET", "POST", "PUT"]
    path: str
    show: Shown
    """What is shown of the reply: of its JSON, or of its text where it is none."""
    body: Mapping[str, Any] | None = None
    text: str = ""
    """The question as it is shown."""


def client_for(url: str, api_key: str = "") -> httpx.Client:
    """A client that goes past proxies; with a key, it sends it."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=TIMEOUT_S)


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


def ask(client: httpx.Client, question: Question) -> Answer:
    """The answer to a question.

    Raises:
        ServeError: the endpoint refuses, or answers in another shape.
    """
    began = time.monotonic()
    reply = client.request(question.method, question.path, json=question.body)
    seconds = time.monotonic() - began
    _check(reply, question.path)
    is_json = reply.headers.get("content-type", "").startswith("application/json")
    try:
        text = question.show(reply.json() if is_json else reply.text)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServeError(
            f"{question.path} answered in another shape ({error!r}): {reply.text[:300]}"
        ) from None
    path = question.path.partition("?")[0]
    return Answer(f"{question.method} {path}", question.text, text, seconds)


def ask_everything(service_url: str, page_url: str, *, api_key: str) -> list[Answer]:
    """The answer of every endpoint, in the order a visitor would try them.

    The applications know the samples already, see `cluster.filling`.

    Raises:
        ServeError: one refuses, answers in another shape, or streams another text than it gives
            at once.
    """
    with client_for(service_url, api_key) as client:
        answers = [ask(client, question) for question in (*_MODELS, *_ASSISTANT)]
        answers += _chat_both_ways(client, _QUESTION_EN)
        answers += [ask(client, question) for question in (*_MONITOR, *_RECOMMEND, *_TELLING)]
    with client_for(page_url) as client:
        page = ask(client, Question("GET", "/", _size))
        return [*answers, Answer("the page", "", page.text, page.seconds)]


def _top_label(tree: Any) -> str:
    top = tree["data"][0]
    return f"{top['label']} ({top['score']:.0%})"


def _models(tree: Any) -> str:
    return ", ".join(f"{model['id']} ({model['task']})" for model in tree["data"])


def _dimension(tree: Any) -> str:
    return f"a vector of {len(tree['data'][0]['embedding'])} numbers"


def _scores(tree: Any) -> str:
    return ", ".join(f"{_CANDIDATES[row['index']]}: {row['score']:.2f}" for row in tree["data"])


def _best_document(tree: Any) -> str:
    best = tree["results"][0]
    return f"{_CANDIDATES[best['index']]}: {best['relevance_score']:.2f}"


def _assistant_answer(tree: Any) -> str:
    return f"[{tree['kind']}, {tree['confidence']:.0%}] {tree['answer']}"


def _topics(tree: Any) -> str:
    rows = tree["topics"]
    most = rows[0]
    return f"{len(rows)} topics; {most['topic']}: {most['num_items']} items"


def _windows(tree: Any) -> str:
    counts = [window["count"] for window in tree["windows"]]
    return f"{len(counts)} windows with {sum(counts)} items"


def _newest(tree: Any) -> str:
    row = tree["items"][0]
    return f"{row['label']}: {row['text']}"


def _alerts(tree: Any) -> str:
    rows = [f"{row['topic']} since {row['start'][:10]}" for row in tree]
    return f"{len(rows)} alerts: {', '.join(rows)}" if rows else "no alert"


def _ranked(tree: Any) -> str:
    best = tree["items"][0]
    reasons = "; ".join(reason["text"] for reason in best["reasons"])
    return f"{best['title']} ({best['score']:.2f}) {reasons}".strip()


def _recommender(tree: Any) -> str:
    return f"{tree['items']} items, {tree['events']} events, ranker: {tree['ranker']}"


def _figures(text: Any) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return f"{len(lines)} figures"


def _size(text: Any) -> str:
    return f"{len(text.encode()) / 1e3:.0f} kB of HTML"


def _state(tree: Any) -> str:
    return json.dumps(tree) if isinstance(tree, dict) else str(tree).strip()


def _classified(model: str, text: str) -> Question:
    return Question("POST", "/v1/classify", _top_label, {"model": model, "input": text}, text)


def _asked(text: str) -> Question:
    return Question("POST", "/v1/assistant/answer", _assistant_answer, {"question": text}, text)


_MODELS = (
    Question("GET", "/healthz", _state),
    Question("GET", "/readyz", _state),
    Question("GET", "/v1/models", _models),
    _classified("customer_intents", _QUESTION_EN),
    _classified("customer_intents", _QUESTION_ZH),
    _classified("market_opinion/topic", _NEWS),
    _classified("market_opinion/sentiment", _NEWS),
    Question(
        "POST",
        "/v1/embeddings",
        _dimension,
        {"model": "knowledge", "input": _QUESTION_EN},
        _QUESTION_EN,
    ),
    Question(
        "POST",
        "/v1/score",
        _scores,
        {"history": _HISTORY, "candidates": _CANDIDATES},
        f"after {' and '.join(_HISTORY)}",
    ),
    Question(
        "POST",
        "/v1/rerank",
        _best_document,
        {"query": _HISTORY[1], "documents": _CANDIDATES},
        _HISTORY[1],
    ),
)
_ASSISTANT = (_asked("How can I track my order?"), _asked(_QUESTION_ZH), _asked(_ELSEWHERE))
_RECOMMEND = (
    Question(
        "POST", "/v1/recommend/rank", _ranked, {"user": "user-001", "top_k": 5}, "for user-001"
    ),
    Question("GET", "/v1/recommend/status", _recommender),
)
_MONITOR = (
    Question("GET", "/v1/monitor/topics", _topics),
    Question("GET", f"/v1/monitor/windows?topic={_TOPIC}", _windows, text=_TOPIC),
    Question("GET", f"/v1/monitor/items?topic={_TOPIC}", _newest, text=_TOPIC),
    Question("GET", "/v1/monitor/alerts", _alerts),
)
_TELLING = (Question("GET", "/metrics", _figures), Question("GET", "/docs", _size))


def _chat_both_ways(client: httpx.Client, question: str) -> list[Answer]:
    path = "/v1/chat/completions"
    messages = [{"role": "user", "content": question}]
    body = {"model": _REPLY_MODEL, "messages": messages, "max_tokens": 96}
    whole = ask(
        client,
        Question("POST", path, lambda t: t["choices"][0]["message"]["content"], body, question),
    )
    began = time.monotonic()
    with client.stream("POST", path, json=body | {"stream": True}) as stream:
        if stream.is_error:
            stream.read()
        _check(stream, path)
        streamed = "".join(_pieces(stream))
    seconds = time.monotonic() - began
    if not whole.text.strip():
        raise ServeError(f"{path}: the model wrote nothing.")
    if streamed != whole.text:
        raise ServeError(f"{path}: streamed {streamed!r}, but at once {whole.text!r}.")
    return [whole, Answer(f"POST {path}, streamed", question, streamed, seconds)]


def _pieces(stream: httpx.Response) -> Sequence[str]:
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


def _check(reply: httpx.Response, path: str) -> None:
    if not reply.is_success:
        raise ServeError(f"{path} answered {reply.status_code}: {reply.text[:300]}")
