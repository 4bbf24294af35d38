"""What cloze tasks share: a pattern around the text with a gap, and a word for each label.

Pattern-exploiting training, Schick and Schuetze 2021, "Exploiting Cloze Questions for Few Shot
Text Classification and Natural Language Inference", arXiv:2001.07676, section 3.1: a pattern turns
the text into a sentence with a gap, a verbaliser names a word for each label, and the score of a
label is the logit of its word at the gap; training is cross-entropy over the labels. The model has
no new weights: what it knows of words is what it starts with. Of a word of several tokens the
score is the mean of their logits, all from one pass.

The authors' ensemble of patterns and the distillation of it are left out, and so is their auxiliary
language-model loss: a stage of language modelling under ``before`` serves the same end.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from ray_sft.core import DataError
from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Loss,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    TensorBatch,
    pad,
)
from ray_sft.tasks.labelled_text import softmax
from ray_sft.tasks.single_label import SingleLabel
from ray_sft.tasks.token_ids import edge_ids, token_ids

__all__ = ["GAP", "Cloze"]

_TEXT, GAP = "{text}", "{mask}"


class Cloze(SingleLabel):
    """One label out of a fixed list, as the word that fills a gap in a pattern around the text."""

    pattern: str
    """The sentence with ``{text}`` and the gap ``{mask}``, each once."""
    words: dict[str, str] = Field(default_factory=dict)
    """The word or words that stand for a label; those left out are the label itself, with spaces
    for its underscores and hyphens."""

    @field_validator("pattern")
    @classmethod
    def _has_text_and_gap(cls, pattern: str) -> str:
        if pattern.count(_TEXT) != 1 or pattern.count(GAP) != 1:
            raise ValueError(f"it needs {_TEXT} and {GAP}, each once")
        return pattern

    @abstractmethod
    def gap_ids(self, processor: Processor, num_tokens: int) -> list[int]:
        """What stands in the gap, where the longest word has ``num_tokens``.

        Raises:
            DataError: the tokenizer has no such token.
        """

    @abstractmethod
    def end_ids(self, processor: Processor) -> list[int]:
        """What stands behind the pattern."""

    @abstractmethod
    def at_gap(
        self, logits_BTV: torch.Tensor, gap_B: torch.Tensor, num_tokens: int
    ) -> torch.Tensor:
        """The logits of the first, the second ... token of a word, (batch, tokens, vocabulary)."""

    def own_tokens(self, processor: Processor) -> Array:
        """See `Task.own_tokens`: those of the labels' words."""
        return np.concatenate(_label_ids(self, processor))

    def logits_at_gap(self, model: torch.nn.Module, batch: TensorBatch) -> torch.Tensor:
        """What `at_gap` takes out of the logits of a batch."""
        logits_BTV = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
        return self.at_gap(logits_BTV, batch["gap"], batch["label_ids"].shape[2])

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`; the head is the language model's own."""
        return {}

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,), ``gap`` (), where that begins, and ``labels`` ().

        Raises:
            DataError: the tokenizer cannot mark a gap, a label has no token, or `max_length` leaves
                no room for a text.
        """
        if not rows:
            return []
        frame = _Frame(self, processor)
        texts = [row.get("text") for row in rows]
        usable = [text for text in texts if isinstance(text, str) and text.strip()]
        encoded = iter(token_ids(frame.spelled(usable), processor, add_special_tokens=False))
        index = {label: position for position, label in enumerate(self.labels)}
        return [
            self._framed(row, next(encoded), frame, index)
            if isinstance(text, str) and text.strip()
            else Rejected("text is missing or empty")
            for row, text in zip(rows, texts, strict=True)
        ]

    def _framed(
        self, row: Row, ids: list[int], frame: "_Frame", index: Mapping[str, int]
    ) -> Encoded:
        words = [token for token in ids if token not in frame.special]  # a mask that is written
        if not words or set(words) == {frame.unknown}:
            return Rejected("text holds nothing that the tokenizer knows")
        labels = self.label_array(row.get(self.label_column), index)
        if isinstance(labels, Rejected):
            return labels
        input_ids, gap = frame.around(words[: frame.room])
        arrays: dict[str, Array] = {
            "input_ids": np.asarray(input_ids, dtype=np.int32),
            "gap": np.asarray(gap, dtype=np.int32),
        }
        if labels is not None:
            arrays["labels"] = labels
        return Example(arrays, len(input_ids), max(0, len(words) - frame.room))

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """See below; all but the first two say what the model's logits mean.

        ``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` and ``gap`` (batch,),
        ``label_ids`` (batch, labels, word tokens), -100 behind the last token of a label.
        """
        ids = pad(_label_ids(self, processor), IGNORED)
        gaps = [int(example.arrays["gap"]) for example in examples]
        return self.inputs(examples, processor) | {
            "labels": self.label_numbers(examples),
            "gap": np.asarray(gaps, dtype=np.int64),
            "label_ids": np.repeat(ids[None], len(examples), axis=0),
        }

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of the labels' scores over labelled rows."""
        scores_BC = _scores(self.logits_at_gap(model, batch), batch["label_ids"])
        is_target_B = batch["labels"] != IGNORED
        scores_NC, targets_N = scores_BC[is_target_B], batch["labels"][is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(scores_NC, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), scores_NC, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``probabilities`` (batch, labels)."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        logits_BTV, gap_B, label_ids_BCM = (
            torch.from_numpy(array) for array in (logits, batch["gap"], batch["label_ids"])
        )
        logits_BMV = self.at_gap(logits_BTV, gap_B, label_ids_BCM.shape[2])
        return {"probabilities": softmax(_scores(logits_BMV, label_ids_BCM).numpy())}


class _Frame:
    """The pattern of a task in a tokenizer's ids."""

    def __init__(self, task: Cloze, processor: Processor) -> None:
        self.unknown = processor.unk_token_id
        self.special = frozenset(processor.all_special_ids) - {self.unknown}
        num_tokens = max(len(ids) for ids in _label_ids(task, processor))
        gap = task.gap_ids(processor, num_tokens)
        start, _ = edge_ids(processor)
        self._parts: list[list[int] | str] = [start]
        self._space = ""
        pieces = [piece for piece in re.split(r"(\{text\}|\{mask\})", task.pattern) if piece]
        for number, piece in enumerate(pieces):
            if piece == _TEXT:
                self._space = " " if number and pieces[number - 1].endswith(" ") else ""
                self._parts.append(_TEXT)
            elif piece == GAP:
                self._parts += [GAP, gap]
            else:  # the space before a text or a gap is theirs
                (ids,) = token_ids([piece.rstrip()], processor, add_special_tokens=False)
                self._parts.append(ids)
        self._parts.append(task.end_ids(processor))
        self.room = task.max_length - sum(len(p) for p in self._parts if not isinstance(p, str))
        if self.room < 1:
            raise DataError(
                f"the pattern {task.pattern!r} and its gap of {len(gap)} tokens leave no room for "
                f"a text in max_length {task.max_length}. Raise it, or shorten the words of the "
                "labels."
            )

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """Texts as they stand in the pattern."""
        return [self._space + text for text in texts]

    def around(self, text: list[int]) -> tuple[list[int], int]:
        """The whole input, and where the gap begins."""
        ids: list[int] = []
        gap = 0
        for part in self._parts:
            if part == GAP:
                gap = len(ids)
            else:
                ids += text if isinstance(part, str) else part
        return ids, gap


def _label_ids(task: Cloze, processor: Processor) -> list[Array]:
    """The ids of each label's words, as they stand behind a space."""
    spelled = [
        " " + task.words.get(label, re.sub(r"[_-]+", " ", label)).strip() for label in task.labels
    ]
    found = token_ids(spelled, processor, add_special_tokens=False)
    for label, ids in zip(task.labels, found, strict=True):
        if not ids or set(ids) == {processor.unk_token_id}:
            raise DataError(
                f"label '{label}' has no token of this tokenizer. Name words for it: "
                f"words: {{{label}: ...}}."
            )
    return [np.asarray(ids, dtype=np.int64) for ids in found]


def _scores(logits_BMV: torch.Tensor, label_ids_BCM: torch.Tensor) -> torch.Tensor:
    """The mean logit of each label's tokens, (batch, labels), float32."""
    is_token_BCM = label_ids_BCM != IGNORED
    ids_BMC = label_ids_BCM.clamp(min=0).transpose(1, 2)
    found_BCM = logits_BMV.float().gather(2, ids_BMC).transpose(1, 2)
    scores: torch.Tensor = found_BCM.where(is_token_BCM, 0.0).sum(dim=2) / is_token_BCM.sum(dim=2)
    return scores
