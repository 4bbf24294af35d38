"""Asking a running service the samples of its bundles, through the routes that clients use.

A sample's answer was recorded by the bundle itself. What comes back over HTTP must be the same:
through the proxy, the border, the queue and the route.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypeAlias

import httpx
import numpy as np

from ray_sft.bundle import Bundle
from ray_sft.tasks import (
    CausalLanguageModel,
    Embedding,
    MultiLabelClassification,
    Ranking,
    SingleLabel,
    Task,
    TokenClassification,
    Translation,
)
from serve.release.choose import is_chosen

__all__ = ["GoldenBundle", "ask_golden"]

Tree: TypeAlias = dict[str, Any]

_NUM_SAMPLES = 3
"""Of each task; the replicas have checked all of them when they loaded the bundle."""
_TOLERANCE = 0.02
"""Absolute, of probabilities; as `ray_sft.inference.check_samples`."""
_LEAST_COSINE = 0.99


@dataclass(frozen=True, slots=True)
class GoldenBundle:
    """A bundle that answers under a model name."""

    name: str
    bundle: Bundle
    is_candidate: bool = False
    percent: float = 0.0
    """Share of the requests that the name's candidate answers."""
    salt: str = ""
    """What the choice of the candidate depends on: its fingerprint."""


def ask_golden(client: httpx.Client, golden: Sequence[GoldenBundle]) -> list[str]:
    """What is wrong with a service or its answers, in words; empty where all is as it should be."""
    try:
        reply = client.get("/readyz")
    except httpx.HTTPError as error:
        return [f"{client.base_url} does not answer: {error}"]
    if reply.status_code != 200:
        return [f"/readyz answered {reply.status_code}: {reply.text[:300]}"]
    return [problem for one in golden for problem in _ask_bundle(client, one)]


def _ask_bundle(client: httpx.Client, golden: GoldenBundle) -> Iterator[str]:
    tasks = golden.bundle.manifest.tasks
    for task_name, task in tasks.items():
        name = golden.name if len(tasks) == 1 else f"{golden.name}/{task_name}"
        ids = _request_ids(golden)
        for sample in islice(golden.bundle.samples(task_name), _NUM_SAMPLES):
            request = _request(name, task, sample["request"])
            if request is None:
                continue
            problem = _ask(client, task, request, sample["response"], next(ids))
            if problem:
                yield f"model '{name}': {problem}"


def _request_ids(golden: GoldenBundle) -> Iterator[str]:
    """Names of requests that this very bundle is chosen to answer."""
    for number in count():
        name = f"golden-{number}"
        chosen = is_chosen(name, golden.salt, percent=golden.percent)
        if chosen == golden.is_candidate:
            yield name


def _request(name: str, task: Task, row: Mapping[str, Any]) -> tuple[str, Tree] | None:
    """Path and body for a sample; None where no route takes it."""
    if isinstance(task, SingleLabel | MultiLabelClassification):
        return "/v1/classify", {"model": name, "input": row["text"], "top_k": 1000}
    if isinstance(task, TokenClassification):
        text = row.get("text")
        return ("/v1/entities", {"model": name, "input": text}) if text else None
    if isinstance(task, Embedding):
        return "/v1/embeddings", {"model": name, "input": row["text"]}
    if isinstance(task, Translation):
        return "/v1/translate", {"model": name, "input": row["text"]}
    if isinstance(task, Ranking):
        body = {"model": name, "history": row["history"], "candidates": [row["candidate"]]}
        return "/v1/score", body
    if isinstance(task, CausalLanguageModel):
        messages = [{name: one[name] for name in ("role", "content")} for one in row["messages"]]
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        body = {"model": name, "messages": messages, "max_tokens": 4, "temperature": 0}
        return ("/v1/chat/completions", body) if messages else None
    return None


def _ask(
    client: httpx.Client, task: Task, request: tuple[str, Tree], expected: Tree, request_id: str
) -> str:
    path, body = request
    try:
        reply = client.post(path, json=body, headers={"x-request-id": request_id})
    except httpx.HTTPError as error:
        return f"{path} did not answer: {error}"
    if reply.status_code == 400 and reply.json()["error"]["code"] == "invalid_text":
        return ""  # longer than requests may be, which the recording was not held to
    if reply.status_code != 200:
        return f"{path} answered {reply.status_code}: {reply.text[:300]}"
    return _difference(task, reply.json(), expected)


def _difference(task: Task, tree: Tree, expected: Tree) -> str:
    """What differs from the sample's response; empty where nothing does."""
    if isinstance(task, CausalLanguageModel):
        return "" if tree["choices"] else "no reply"
    if isinstance(task, Translation):
        return "" if tree["data"][0].get("text") is not None else "no translation"
    (item,) = tree["data"]
    if "error" in item:
        return str(item["error"]["message"])
    if isinstance(task, Embedding):
        return _vectors_differ(item["embedding"], expected["embedding"])
    if isinstance(task, TokenClassification):
        found, meant = _entities(item["entities"]), _entities(expected["entities"])
        return "" if found == meant else f"entities {found}, expected {meant}"
    if isinstance(task, MultiLabelClassification):
        found_scores = {one["label"]: one["score"] for one in item["scores"]}
        return _scores_differ(found_scores, expected["scores"])
    if isinstance(task, SingleLabel):
        return _scores_differ({item["label"]: item["score"]}, expected["scores"])
    return _scores_differ({"score": item["score"]}, [{"label": "score", **expected}])


def _scores_differ(found: Mapping[str, float], expected: Sequence[Tree]) -> str:
    """Compares by label, since labels of nearly equal score may change places."""
    meant = {item["label"]: item["score"] for item in expected}
    for label, score in found.items():
        if abs(score - meant.get(label, -1.0)) > _TOLERANCE:
            return f"'{label}' has {score:.4f}, expected {meant.get(label)}"
    return ""


def _vectors_differ(found: Sequence[float], expected: Sequence[float]) -> str:
    one, other = np.asarray(found), np.asarray(expected)
    if one.shape != other.shape:
        return f"a vector of {len(one)} numbers, expected {len(other)}"
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    return "" if cosine >= _LEAST_COSINE else f"a vector at cosine {cosine:.4f} of the expected one"


def _entities(entities: Sequence[Tree]) -> list[tuple[str, int, int]]:
    return [(one["label"], one["start"], one["end"]) for one in entities]
