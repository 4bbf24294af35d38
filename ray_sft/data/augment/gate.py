"""Which changed copies are kept: those that still mean what their row means."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import Field

from ray_sft.bundle import Bundle
from ray_sft.core import Config
from ray_sft.data.augment.device import device_of_task
from ray_sft.data.references import ModelReference, only_task, weights_of
from ray_sft.data.texts import texts_of
from ray_sft.inference import HeadRunner, Predictor, TorchRunner, plan_batches
from ray_sft.models import check_model, load_processor, load_tasks, locate
from ray_sft.tasks import Array, Embedding, Example, Rejected, Row, SequenceClassification

__all__ = ["Gate"]

_VECTOR = "vector"
_MAX_BATCH_TOKENS = 4096


class Gate(Config):
    """Drops changed copies by what a classifier and an encoder make of them.

    A dropped copy is rejected with its reason, as a row is.
    """

    classifier: ModelReference = ""
    """A bundle of the task sequence_classification. A copy is dropped that it gives another label
    than its row, unless that is the label which the row has; empty for no such check."""
    embedder: ModelReference = ""
    """``embedded/minilm``, or another encoder, whose mean over the tokens is compared; empty for
    no such check."""
    min_similarity: float = Field(default=0.7, ge=-1, le=1)
    """The least cosine between the embeddings of a row and of its copy."""

    @property
    def uses_gpu(self) -> bool:
        """Whether a model of it runs on the task's GPU, where the cluster has some."""
        return bool(self.embedder)

    def check(self) -> None:
        """Raises where a model cannot be used; loads no weights.

        Raises:
            BundleError: the classifier is no whole bundle.
            ConfigError: the encoder is not there, or the bundle classifies no texts.
        """
        if self.classifier:
            bundle = Bundle.open(Path(self.classifier))
            _classifying_task(bundle)
        if self.embedder:
            check_model(locate(self.embedder))

    def fingerprint(self) -> str:
        """Changes where other copies would be kept."""
        said = self.model_dump_json() + weights_of(self.classifier, self.embedder)
        return hashlib.sha256(said.encode()).hexdigest()

    def reasons(self, rows: Sequence[Row], copies: Sequence[Row]) -> list[str]:
        """Why each copy is dropped, empty for one that is kept; ``rows`` are what they are of."""
        reasons = [""] * len(copies)
        if not copies:
            return reasons
        if self.classifier:
            reasons = self._other_labels(rows, copies)
        if self.embedder:
            for number, similarity in enumerate(self._similarities(rows, copies)):
                if not reasons[number] and similarity < self.min_similarity:
                    reasons[number] = (
                        f"the copy drifted from its row (similarity {similarity:.2f}, "
                        f"{self.min_similarity:.2f} needed)"
                    )
        return reasons

    def _other_labels(self, rows: Sequence[Row], copies: Sequence[Row]) -> list[str]:
        predictor = _classifier(self.classifier)
        labels = [
            None if isinstance(answer, Rejected) else answer.label  # type: ignore[attr-defined]  # the task was checked
            for answer in predictor.predict([*rows, *copies])
        ]
        return [
            f"the copy changed the label to '{after}'"
            if after not in {before, row.get("label")}
            else ""
            for row, before, after in zip(
                rows, labels[: len(rows)], labels[len(rows) :], strict=True
            )
        ]

    def _similarities(self, rows: Sequence[Row], copies: Sequence[Row]) -> Array:
        """Cosines, (copies,)."""
        texts = [texts_of(row) for row in (*rows, *copies)]
        vectors = _embedder(self.embedder).embed(texts)
        similarities: Array = (vectors[: len(rows)] * vectors[len(rows) :]).sum(axis=1)
        return similarities


class _Embedder:
    """Texts as vectors of length 1."""

    def __init__(self, reference: str) -> None:
        source = locate(reference)
        self.task = Embedding()
        self.processor = load_processor(source.processor)
        model = load_tasks(source.model, {_VECTOR: self.task}, processor=self.processor)
        device = device_of_task()
        runner = TorchRunner(model.to(device).eval(), device=str(device))
        self.runner = HeadRunner(runner, _VECTOR)

    def embed(self, texts: Sequence[str]) -> Array:
        """(texts, dim); equal texts are computed once, and a text without words is all zeros."""
        distinct = list(dict.fromkeys(texts))
        encoded = self.task.encode([{"text": text} for text in distinct], self.processor)
        examples = {n: found for n, found in enumerate(encoded) if isinstance(found, Example)}
        places = list(examples)
        vectors: dict[str, Array] = {}
        lengths = [examples[place].length for place in places]
        for group in plan_batches(lengths, max_batch_tokens=_MAX_BATCH_TOKENS):
            batch = self.task.collate([examples[places[i]] for i in group], self.processor)
            found = self.task.predict(self.runner, batch)["embedding"]
            vectors |= {distinct[places[i]]: row for i, row in zip(group, found, strict=True)}
        dim = len(next(iter(vectors.values()))) if vectors else 1
        return np.stack([vectors.get(text, np.zeros(dim)) for text in texts])


@lru_cache(maxsize=2)
def _embedder(reference: str) -> _Embedder:
    return _Embedder(reference)


@lru_cache(maxsize=2)
def _classifier(path: str) -> Predictor:
    bundle = Bundle.open(Path(path))
    return Predictor.each(bundle)[_classifying_task(bundle)]


def _classifying_task(bundle: Bundle) -> str:
    return only_task(bundle, SequenceClassification, field="gate.classifier")
