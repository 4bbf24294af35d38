"""Token classification: entities as runs of words, learned and answered as BIO tags of words.

The first sub-word of a word carries its tag, the others are no targets. Words that the tokenizer
makes nothing of (a zero-width space, say) and words behind ``max_length`` have no tag: an entity
is then as long as its other words, and one of which no word is left counts as not found.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, field_validator

from ray_sft.core import DataError
from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Head,
    Judgement,
    Loss,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
    TensorBatch,
    pad,
)
from ray_sft.tasks.entities import Entity, EntityRequest, EntityResponse
from ray_sft.tasks.entity_metrics import EntityMetrics
from ray_sft.tasks.entity_tags import (
    Scheme,
    Span,
    entity_spans,
    entity_type,
    tag_ids,
    tag_names,
    token_targets,
)
from ray_sft.tasks.labelled_text import with_new
from ray_sft.tasks.words import AlignedWords, Sentence, align, read_sentence, spelled

__all__ = ["TokenClassification"]


_NO_TYPE = "O"
"""Of a word outside of all entities, as tags spell it."""


class TokenClassification(Task):
    """Entities of fixed types in a text."""

    columns: ClassVar[Mapping[str, str]] = {
        "tokens": "the words of a sentence, as a list",
        "text": "running text where there are no tokens; it is split into words",
        "tags": "a tag for each word, as a list; not needed for prediction",
    }
    head: ClassVar[Head] = "token_classification"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("f1", "max")
    labels_tokens: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = EntityRequest
    Response: ClassVar[type[BaseModel]] = EntityResponse

    kind: Literal["token_classification"] = "token_classification"
    labels: tuple[str, ...] = ()
    """The types of entities (``PER``, not ``B-PER``); read from the training data when empty."""
    scheme: Scheme = "bio"
    """How files spell tags: ``bio`` begins every entity with B-, ``iob1`` only those that touch
    another of their type, ``io`` none, so that neighbours of one type are one entity."""
    max_length: int = Field(default=256, ge=4, le=8192)
    """The longest text in tokens; training and evaluation cut longer ones at a word and count
    what was cut."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted(label for label, count in Counter(labels).items() if count > 1):
            raise ValueError(f"label '{twice[0]}' stands twice")
        if not all(label.strip() for label in labels):
            raise ValueError("a label is empty; name types of entities, or leave them out")
        return labels

    def observed_columns(self) -> tuple[str, ...]:
        """See `Task.observed_columns`; the values are the tags of single words."""
        return ("tags",)

    def resolve(self, values: Mapping[str, Sequence[str]], former: Self | None = None) -> Self:
        """This task with its labels, sorted, taken from the training data where it has none.

        Those of ``former`` stand before them.

        Raises:
            DataError: the data has no entity, or types that the recipe leaves out.
        """
        if self.labels:
            self.check_values(values, split="train")
        found = self.labels or self._types(values["tags"])
        if not found:
            shown = ", ".join(sorted(values["tags"])[:8]) or "nothing"
            raise DataError(
                f"the tags of the training data name no entity of the scheme {self.scheme} "
                f"(they are: {shown}). Set scheme, or map the column: columns: {{tags: ...}}."
            )
        known = former.labels if former else ()
        labels = with_new(known, found)
        return self if labels == self.labels else self.model_copy(update={"labels": labels})

    def check_values(self, values: Mapping[str, Sequence[str]], *, split: str) -> None:
        """Raises DataError where ``split`` has types of entities that the task does not know."""
        for label in self._types(values["tags"]):
            if label in self.labels:
                continue
            near = get_close_matches(label, self.labels, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            known = ", ".join(self.labels[:8]) + (", ..." if len(self.labels) > 8 else "")
            raise DataError(
                f"the {split} data has entities of type '{label}', which the {len(self.labels)} "
                f"labels of the task do not hold ({known}).{hint} Add training rows for it, "
                "rename it, or leave its rows out."
            )

    def _types(self, tags: Sequence[str]) -> list[str]:
        """The types that occur; rows with other tags are rejected later, each with its reason."""
        found = set()
        for tag in tags:
            try:
                found.add(entity_type(tag, self.scheme))
            except DataError:
                continue
        return sorted(found - {""})

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`; the classes are the BIO tags."""
        tags = tag_names(self.labels)
        return {
            "num_labels": len(tags),
            "id2label": dict(enumerate(tags)),
            "label2id": {tag: index for index, tag in enumerate(tags)},
        }

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,), arrays that place the words, and, with tags, ``labels``.

        ``word_starts``, ``words``, ``char_starts`` and ``char_ends`` (words,) hold each kept
        word's first token, index and characters; ``labels`` (tokens,) are -100 but at first
        sub-words, and ``lost_entities`` holds the types of entities that no kept word belongs to.

        Raises:
            DataError: the tokenizer cannot tell which word a token belongs to.
        """
        if not processor.is_fast:
            raise DataError(
                f"{type(processor).__name__} does not tell words apart: TokenClassification needs "
                "a fast tokenizer (a tokenizer.json). Start from a model that has one."
            )
        sentences = [read_sentence(row) for row in rows]
        batch = [spelled(item.words) for item in sentences if isinstance(item, Sentence)]
        encoded = processor(batch, is_split_into_words=True, verbose=False) if batch else None
        remaining = iter(encoded.encodings if encoded else [])
        index = {label: position for position, label in enumerate(self.labels)}
        return [
            item if isinstance(item, Rejected) else self._example(row, item, next(remaining), index)
            for row, item in zip(rows, sentences, strict=True)
        ]

    def _example(
        self, row: Row, sentence: Sentence, encoding: Any, index: Mapping[str, int]
    ) -> Encoded:
        aligned = align(encoding.ids, encoding.word_ids, max_length=self.max_length)
        if not aligned.kept:
            return Rejected(
                f"the first word has more tokens than max_length ({self.max_length})"
                if aligned.truncated
                else "the words hold nothing that the tokenizer knows"
            )
        arrays = _word_arrays(sentence, aligned)
        tags = row.get("tags")
        if tags is not None:
            num_words = len(sentence.words)
            if not isinstance(tags, list | tuple):
                return Rejected("tags is not a list")
            if len(tags) != num_words:
                return Rejected(f"the row has {num_words} words and {len(tags)} tags")
            try:
                spans = entity_spans(tag_ids(tags, self.scheme, index))
            except DataError as error:
                return Rejected(str(error))
            arrays["labels"], arrays["lost_entities"] = token_targets(spans, aligned)
        return Example(arrays, len(aligned.input_ids), aligned.truncated)

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids``, ``attention_mask``, ``labels`` (batch, tokens), padded on the right."""
        ids = [example.arrays["input_ids"] for example in examples]
        labels = [
            example.arrays.get("labels", np.full(example.length, IGNORED)) for example in examples
        ]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": pad(labels, IGNORED),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of tagged words."""
        return int((batch["labels"] != IGNORED).sum())

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy over tagged words."""
        labels_BT = batch["labels"]
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        is_target_BT = labels_BT != IGNORED
        logits_NC = outputs.logits[is_target_BT].float()
        targets_N = labels_BT[is_target_BT]
        loss_sum = torch.nn.functional.cross_entropy(logits_NC, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_NC, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``log_probabilities`` (batch, tokens, tags); those of padding mean nothing."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return {"log_probabilities": shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """An `EntityResponse` per example: the most probable tag of each word by itself."""
        del processor
        return [
            self._response(log_probabilities, example.arrays)
            for log_probabilities, example in zip(
                outputs["log_probabilities"], examples, strict=True
            )
        ]

    def _response(self, log_probabilities_TC: Array, arrays: Mapping[str, Array]) -> EntityResponse:
        starts = arrays["word_starts"]
        log_probabilities_WC = log_probabilities_TC[starts]
        scores_W = np.exp(log_probabilities_WC.max(axis=-1))
        spans = entity_spans(log_probabilities_WC.argmax(axis=-1).tolist())
        entities = [self._entity(span, scores_W, arrays) for span in spans]
        if "labels" not in arrays:
            return EntityResponse(entities=entities)
        targets_W = arrays["labels"][starts]
        right_W = log_probabilities_WC[np.arange(len(starts)), targets_W]
        return EntityResponse(entities=entities, loss_sum=-float(right_W.sum(dtype=np.float64)))

    def _entity(self, span: Span, scores_W: Array, arrays: Mapping[str, Array]) -> Entity:
        last = span.end - 1
        return Entity(
            label=self.labels[span.label],
            start=int(arrays["char_starts"][span.start]),
            end=int(arrays["char_ends"][last]),
            first_word=int(arrays["words"][span.start]),
            last_word=int(arrays["words"][last]),
            score=float(scores_W[span.start : span.end].mean()),
        )

    def judgements(
        self, responses: Sequence[BaseModel], examples: Sequence[Example], processor: Processor
    ) -> list[Judgement]:
        """See `Task.judgements`; one for each tagged word, of its type or of none.

        The score of a word that belongs to no entity is not told, NaN.
        """
        found = []
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, EntityResponse)
            if "labels" in example.arrays:
                found += self._word_judgements(response, example.arrays, processor)
        return found

    def _word_judgements(
        self, response: EntityResponse, arrays: Mapping[str, Array], processor: Processor
    ) -> list[Judgement]:
        ids, starts, words = arrays["input_ids"], arrays["word_starts"], arrays["words"]
        ends = [*starts[1:], len(ids)]
        spelled = [
            processor.decode(ids[start:end], skip_special_tokens=True).strip()
            for start, end in zip(starts, ends, strict=True)
        ]
        of_word = {
            word: entity
            for entity in response.entities
            for word in range(entity.first_word, entity.last_word + 1)
        }
        sentence = " ".join(spelled)
        found = []
        for target, word, spelling in zip(arrays["labels"][starts], words, spelled, strict=True):
            entity = of_word.get(int(word))
            expected = self.labels[(int(target) - 1) // 2] if target > 0 else _NO_TYPE
            answered, score = (entity.label, entity.score) if entity else (_NO_TYPE, float("nan"))
            found.append(Judgement(expected, answered, score, f"{spelling} | {sentence}"))
        return found

    def metrics(self) -> Metrics:
        """See `EntityMetrics`."""
        return EntityMetrics(self.labels)


def _word_arrays(sentence: Sentence, aligned: AlignedWords) -> dict[str, Array]:
    words = np.asarray(aligned.kept, dtype=np.int32)
    return {
        "input_ids": np.asarray(aligned.input_ids, dtype=np.int32),
        "word_starts": np.asarray(aligned.starts, dtype=np.int32),
        "words": words,
        "char_starts": np.asarray(sentence.starts, dtype=np.int32)[words],
        "char_ends": np.asarray(sentence.ends, dtype=np.int32)[words],
    }
