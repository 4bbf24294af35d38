"""The routes that can be loaded: where each is and what its requests hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["ROUTES", "Route"]

Tree = dict[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request."""

    path: str
    body: Callable[[Sequence[str]], Tree]
    takes_several: bool = True
    """Whether one request may have several texts."""
    writes: bool = False
    """Whether a model writes the reply, which is then asked for as a stream."""


def _input(texts: Sequence[str]) -> Tree:
    return {"input": texts[0] if len(texts) == 1 else list(texts)}


def _score(texts: Sequence[str]) -> Tree:
    return {"history": [texts[0]], "candidates": list(texts)}


def _rerank(texts: Sequence[str]) -> Tree:
    return {"query": texts[0], "documents": list(texts)}


def _chat(texts: Sequence[str]) -> Tree:
    return {"messages": [{"role": "user", "content": texts[0]}]}


def _prompt(texts: Sequence[str]) -> Tree:
    return {"prompt": texts[0]}


ROUTES = {
    "classify": Route("/v1/classify", _input),
    "entities": Route("/v1/entities", _input),
    "embeddings": Route("/v1/embeddings", _input),
    "translate": Route("/v1/translate", _input),
    "tokenize": Route("/v1/tokenize", _input),
    "score": Route("/v1/score", _score),
    "rerank": Route("/v1/rerank", _rerank),
    "chat": Route("/v1/chat/completions", _chat, takes_several=False, writes=True),
    "completions": Route("/v1/completions", _prompt, takes_several=False, writes=True),
}
