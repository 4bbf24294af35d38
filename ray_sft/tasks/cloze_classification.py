"""Cloze classification: a masked language model fills in the label, where rows are few.

Pattern-exploiting training, Schick and Schuetze 2021, "Exploiting Cloze Questions for Few Shot
Text Classification and Natural Language Inference", arXiv:2001.07676, section 3.1: a pattern turns
the text into a sentence with a gap, a verbaliser names a word for each label, and the score of a
label is the logit of its word at the gap; training is cross-entropy over the labels. The model has
no new weights: what it knows of words is what it starts with.

So it should start from a model that has its language-model head: one from the hub, or what a stage
of `masked_language_model` under ``before`` has left (`embedded/minilm` itself has none).

Words of several tokens: the gap has as many masks as the longest word has tokens, and a label's
score is the mean of the logits of its tokens at the first masks, all from one pass, as the same
authors do in arXiv:2009.07118, section 3.1, in training. Their ensemble of patterns and the
distillation of it are left out, and so is their auxiliary language-model loss: a stage of
`masked_language_model` under ``before`` serves the same end.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

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
    Head,
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

__all__ = ["ClozeClassification"]

_TEXT, _GAP = "{text}", "{mask}"


class ClozeClassification(SingleLabel):
    """One label out of a fixed list, as the word that fills a gap in a pattern around the text."""

    head: ClassVar[Head] = "masked_lm"

    kind: Literal["cloze_classification"] = "cloze_classification"
    pattern: str = "{text} It is about {mask}."
    """The sentence with ``{text}`` and the gap ``{mask}``, each once."""
    words: dict[str, str] = Field(default_factory=dict)
    """The word or words that stand for a label; those left out are the label itself, with spaces
    for its underscores and hyphens."""

    @field_validator("pattern")
    @classmethod
    def _has_text_and_gap(cls, pattern: str) -> str:
        if pattern.count(_TEXT) != 1 or pattern.count(_GAP) != 1:
            raise ValueError(f"it needs {_TEXT} and {_GAP}, each once")
        return pattern

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`; the head is the language model's own."""
        return {}

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,), ``gap`` (), where the masks begin, and ``labels`` ().

        Raises:
            DataError: the tokenizer has no mask, a label has no token, or `max_length` leaves no
                room for a text.
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
        ``label_ids`` (batch, labels, masks), -100 behind the last token of a label.
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
        logits_BTV = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
        scores_BC = _scores(logits_BTV, batch["gap"], batch["label_ids"])
        is_target_B = batch["labels"] != IGNORED
        scores_NC, targets_N = scores_BC[is_target_B], batch["labels"][is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(scores_NC, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), scores_NC, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``probabilities`` (batch, labels)."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        given = (torch.from_numpy(array) for array in (logits, batch["gap"], batch["label_ids"]))
        return {"probabilities": softmax(_scores(*given).numpy())}


class _Frame:
    """The pattern of a task in a tokenizer's ids."""

    def __init__(self, task: ClozeClassification, processor: Processor) -> None:
        if processor.mask_token_id is None:
            raise DataError(
                f"{type(processor).__name__} has no mask token: cloze_classification needs a "
                "masked language model, such as a BERT."
            )
        self.unknown = processor.unk_token_id
        self.special = frozenset(processor.all_special_ids) - {self.unknown}
        num_masks = max(len(ids) for ids in _label_ids(task, processor))
        start, end = edge_ids(processor)
        self._parts: list[list[int] | str] = [start]
        self._space = ""
        pieces = [piece for piece in re.split(r"(\{text\}|\{mask\})", task.pattern) if piece]
        for number, piece in enumerate(pieces):
            if piece == _TEXT:
                self._space = " " if number and pieces[number - 1].endswith(" ") else ""
                self._parts.append(_TEXT)
            elif piece == _GAP:
                self._parts += [_GAP, [processor.mask_token_id] * num_masks]
            else:  # the space before a text or a gap is theirs
                (ids,) = token_ids([piece.rstrip()], processor, add_special_tokens=False)
                self._parts.append(ids)
        self._parts.append(end)
        self.room = task.max_length - sum(len(p) for p in self._parts if not isinstance(p, str))
        if self.room < 1:
            raise DataError(
                f"the pattern {task.pattern!r} and {num_masks} masks leave no room for a text in "
                f"max_length {task.max_length}. Raise it, or shorten the words of the labels."
            )

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """Texts as they stand in the pattern."""
        return [self._space + text for text in texts]

    def around(self, text: list[int]) -> tuple[list[int], int]:
        """The whole input, and where the gap begins."""
        ids: list[int] = []
        gap = 0
        for part in self._parts:
            if part == _GAP:
                gap = len(ids)
            else:
                ids += text if isinstance(part, str) else part
        return ids, gap


def _label_ids(task: ClozeClassification, processor: Processor) -> list[Array]:
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


def _scores(
    logits_BTV: torch.Tensor, gap_B: torch.Tensor, label_ids_BCM: torch.Tensor
) -> torch.Tensor:
    """The mean logit of each label's tokens at the masks, (batch, labels), float32."""
    num_rows, _, num_masks = label_ids_BCM.shape
    places_BM = gap_B[:, None] + torch.arange(num_masks, device=gap_B.device)
    rows_B1 = torch.arange(num_rows, device=gap_B.device)[:, None]
    logits_BMV = logits_BTV[rows_B1, places_BM].float()
    is_token_BCM = label_ids_BCM != IGNORED
    ids_BMC = label_ids_BCM.clamp(min=0).transpose(1, 2)
    found_BCM = logits_BMV.gather(2, ids_BMC).transpose(1, 2)
    scores: torch.Tensor = found_BCM.where(is_token_BCM, 0.0).sum(dim=2) / is_token_BCM.sum(dim=2)
    return scores
