"""Every kind of task as tensors: its requests out of inputs, its responses as outputs.

| task                        | inputs             | outputs                               |
|-----------------------------|--------------------|---------------------------------------|
| one label for a text        | text               | label, score, scores (rows, labels)   |
| any labels for a text       | text               | labels as JSON, scores (rows, labels) |
| entities                    | text               | entities as JSON, as in /v1/entities  |
| embedding                   | text               | embedding (rows, dim)                 |
| ranking                     | candidate, history | score                                 |
| sentence order              | text               | in_order                              |
| translation, language model | text               | text, finish_reason                   |

Texts are BYTES, numbers FP32. A new kind is one class here and one line in `_ADAPTERS`. Rows are
checked by the task's own ``Request``, and outputs are made of its ``Response``.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks import (
    CausalClozeClassification,
    CausalLanguageModel,
    ClozeClassification,
    Embedding,
    MultiLabelClassification,
    Ranking,
    Row,
    SentenceOrder,
    SequenceClassification,
    SingleLabel,
    Task,
    TokenClassification,
    Translation,
)
from ray_sft.tasks.embedding import EmbeddingResponse
from ray_sft.tasks.entities import EntityResponse
from ray_sft.tasks.labelled_text import LabelScore
from ray_sft.tasks.multi_label_classification import MultiLabelResponse
from ray_sft.tasks.ranking import RankingResponse
from ray_sft.tasks.sentence_order import OrderResponse
from ray_sft.tasks.sequence_classification import ClassificationResponse
from serve.endpoints.entities import found_entities
from serve.endpoints.inference_protocol.schema import Parameters
from serve.endpoints.inference_protocol.tensors import TensorSpec, TextTensor, Values, malformed
from serve.endpoints.rank import MAX_HISTORY
from serve.errors import explain_problem
from serve.models import Encoder, Generator, TranslatedText

__all__ = ["Adapter", "adapter_of"]

T = TypeVar("T", bound=Task)
TEXT = TensorSpec("text", "BYTES", (-1,))
_FINISH_REASON = TensorSpec("finish_reason", "BYTES", (-1,))


class Adapter(ABC, Generic[T]):
    """How the requests and responses of a task look as tensors."""

    inputs: ClassVar[tuple[TensorSpec, ...]] = (TEXT,)
    row_input: ClassVar[str] = "text"
    """The input of which every row has one element."""

    def __init__(self, model: Encoder | Generator) -> None:
        """For the task of ``model``."""
        self.model = model
        self.task: T = model.task  # type: ignore[assignment] # by _ADAPTERS

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes back, rows first."""

    def described_outputs(self) -> tuple[TensorSpec, ...]:
        """`outputs`, with every size that somebody has to look up; may read a file."""
        return self.outputs

    @property
    def parameters(self) -> Parameters:
        """What the metadata say beside the tensors."""
        return {}

    def rows(self, tensors: Mapping[str, TextTensor]) -> list[Row]:
        """A row of the task for each row of the inputs, checked by the task.

        Raises:
            ApiError: the task does not take a row, or inputs do not belong together.
        """
        return [self._checked(row, place) for place, row in enumerate(self._rows(tensors))]

    @abstractmethod
    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        """What each output holds; there is a response for each row."""

    def _rows(self, tensors: Mapping[str, TextTensor]) -> list[dict[str, Any]]:
        return [{self.row_input: text} for text in tensors[self.row_input].values]

    def _checked(self, row: dict[str, Any], place: int) -> Row:
        try:
            self.task.Request.model_validate(row)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ("inputs", self.row_input, place)
            raise explain_problem({**problem, "loc": where}) from None
        return row


class _Label(Adapter[SingleLabel]):
    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("label", "BYTES", (-1,)),
            TensorSpec("score", "FP32", (-1,)),
            TensorSpec("scores", "FP32", (-1, len(self.task.labels))),
        )

    @property
    def parameters(self) -> Parameters:
        return {"labels": _as_json(self.task.labels)}

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        found = [_as(ClassificationResponse, one) for one in responses]
        return {
            "label": [one.label for one in found],
            "score": _numbers([one.score for one in found]),
            "scores": _scores([one.scores for one in found], self.task.labels),
        }


class _Labels(Adapter[MultiLabelClassification]):
    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("labels", "BYTES", (-1,)),
            TensorSpec("scores", "FP32", (-1, len(self.task.labels))),
        )

    @property
    def parameters(self) -> Parameters:
        return {"labels": _as_json(self.task.labels), "threshold": self.task.threshold}

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        found = [_as(MultiLabelResponse, one) for one in responses]
        return {
            "labels": [_as_json(one.labels) for one in found],
            "scores": _scores([one.scores for one in found], self.task.labels),
        }


class _Entities(Adapter[TokenClassification]):
    outputs = (TensorSpec("entities", "BYTES", (-1,)),)

    @property
    def parameters(self) -> Parameters:
        return {"labels": _as_json(self.task.labels)}

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        found = [
            found_entities(row["text"], _as(EntityResponse, one))
            for row, one in zip(rows, responses, strict=True)
        ]
        return {"entities": [_as_json([one.model_dump() for one in some]) for some in found]}


class _Vector(Adapter[Embedding]):
    outputs = (TensorSpec("embedding", "FP32", (-1, -1)),)

    def described_outputs(self) -> tuple[TensorSpec, ...]:
        """With the length of the vectors, where the bundle has samples to tell it."""
        samples = self.model.bundle.samples(self.model.task_name)
        dim = next((len(sample["response"]["embedding"]) for sample in samples), -1)
        return (TensorSpec("embedding", "FP32", (-1, dim)),)

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        return {"embedding": _numbers([_as(EmbeddingResponse, one).embedding for one in responses])}


class _Score(Adapter[Ranking]):
    inputs = (
        TensorSpec("candidate", "BYTES", (-1,)),
        TensorSpec("history", "BYTES", (-1, -1), is_optional=True),
    )
    row_input = "candidate"
    outputs = (TensorSpec("score", "FP32", (-1,)),)

    @property
    def parameters(self) -> Parameters:
        return {"optional_inputs": _as_json(["history"])}

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        return {"score": _numbers([_as(RankingResponse, one).score for one in responses])}

    def _rows(self, tensors: Mapping[str, TextTensor]) -> list[dict[str, Any]]:
        """One history stands for all candidates; texts that fill up a shorter one are empty."""
        candidates = tensors["candidate"].values
        given = _histories(tensors["history"], len(candidates)) if "history" in tensors else [[]]
        histories = given * len(candidates) if len(given) == 1 else given
        return [
            {"history": [text for text in history if text], "candidate": candidate}
            for history, candidate in zip(histories, candidates, strict=True)
        ]


class _Order(Adapter[SentenceOrder]):
    outputs = (TensorSpec("in_order", "FP32", (-1,)),)

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        return {"in_order": _numbers([_as(OrderResponse, one).in_order for one in responses])}


class _Written(Adapter[T]):
    outputs = (TEXT, _FINISH_REASON)

    def values(self, rows: Sequence[Row], responses: Sequence[BaseModel]) -> dict[str, Values]:
        del rows
        found = [_as(TranslatedText, one) for one in responses]
        return {
            "text": [one.text for one in found],
            "finish_reason": ["stop" if one.is_whole else "length" for one in found],
        }


class _Reply(_Written[CausalLanguageModel]):
    @property
    def parameters(self) -> Parameters:
        """Whether a text is what somebody says to the model, or what the model goes on from."""
        return {"format": self.task.format}

    def _checked(self, row: dict[str, Any], place: int) -> Row:
        if not row["text"]:
            raise malformed(f"element {place} is empty", "text")
        return row


_ADAPTERS: Mapping[type[Task], type[Adapter[Any]]] = {
    SequenceClassification: _Label,
    ClozeClassification: _Label,
    CausalClozeClassification: _Label,
    MultiLabelClassification: _Labels,
    TokenClassification: _Entities,
    Ranking: _Score,
    Embedding: _Vector,
    SentenceOrder: _Order,
    Translation: _Written,
    CausalLanguageModel: _Reply,
}


def adapter_of(model: Encoder | Generator) -> Adapter[Any]:
    """The tensors of a model.

    Raises:
        ServeError: nobody has said how its kind of task looks as tensors.
    """
    adapter = _ADAPTERS.get(type(model.task))
    if adapter is None:
        raise ServeError(
            f"tasks of the kind {model.task.kind} have no tensors: `_ADAPTERS` in {__name__} does "
            "not name them."
        )
    return adapter(model)


R = TypeVar("R", bound=BaseModel)


def _as(kind: type[R], response: BaseModel) -> R:
    assert isinstance(response, kind)
    return response


def _histories(tensor: TextTensor, num_candidates: int) -> list[list[str]]:
    """A history for each candidate, or one for all.

    Raises:
        ApiError: there are others, or one is too long.
    """
    num_rows, width = tensor.shape
    # before rows are made: to state a billion of them costs nothing where they are empty
    if num_rows not in (1, num_candidates):
        raise malformed(
            f"there are {num_rows} rows for {num_candidates} candidates; give one for each, or one "
            "for all",
            "history",
        )
    if width > MAX_HISTORY:
        raise malformed(
            f"a row has {width} texts; it may have {MAX_HISTORY}. Leave out the oldest", "history"
        )
    return tensor.rows()


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _numbers(values: Sequence[float] | Sequence[Sequence[float]]) -> Values:
    return np.asarray(values, dtype=np.float32)


def _scores(scores: Sequence[Sequence[LabelScore]], labels: Sequence[str]) -> Values:
    """Probabilities (rows, labels) in the order of the task's labels."""
    by_label = [{item.label: item.score for item in row} for row in scores]
    return _numbers([[row[label] for label in labels] for row in by_label])
