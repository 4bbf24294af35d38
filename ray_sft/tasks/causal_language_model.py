"""Causal language modelling: raw text, or conversations of which only the replies are learned.

A conversation is rendered by the tokenizer's own chat template. The loss mask comes from the
structure of that text: the characters between "the assistant's turn begins" and "the assistant's
turn has ended" are targets, its end-of-turn token included. It never comes from ``id == pad``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field

from ray_sft.core import DataError
from ray_sft.tasks.base import (
    IGNORED,
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
from ray_sft.tasks.chat import Message, encode_chat, encode_prompt, messages_of, render
from ray_sft.tasks.chosen_logits import can_choose_logits
from ray_sft.tasks.control_tokens import control_tokens, without_tokens
from ray_sft.tasks.language_model_score import LanguageModelTask, score_targets
from ray_sft.tasks.prompt_tokens import prompt_ids
from ray_sft.tasks.token_ids import token_ids

__all__ = [
    "CausalLanguageModel",
    "ChatRequest",
    "Message",
    "encode_prompt",
    "encode_text_prompt",
    "render",
    "running_text",
]


class ChatRequest(BaseModel):
    """A conversation; its assistant turns are what is scored."""

    messages: list[Message] = Field(min_length=1)


class CausalLanguageModel(LanguageModelTask):
    """Next-token prediction on conversations (replies only) or on raw text (every token)."""

    columns: ClassVar[Mapping[str, str]] = {
        "messages": "a list of {role, content} or {role, content, weight}; with format: chat",
        "text": "running text; with format: text (messages are joined where it is missing)",
    }
    head: ClassVar[Head] = "causal_lm"
    can_pack: ClassVar[bool] = True
    labels_tokens: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = ChatRequest

    kind: Literal["causal_language_model"] = "causal_language_model"
    format: Literal["chat", "text"] = "chat"
    """``chat`` trains the assistant's turns of ``messages``, ``text`` every token of ``text``."""
    max_length: int = Field(default=512, ge=8, le=131072)
    """The longest example in tokens; training cuts longer ones at the end and counts them."""

    def texts(self, row: Row) -> list[str]:
        """See `Task.texts`."""
        try:
            return [running_text(row)]
        except DataError:
            return []

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` and ``labels`` (tokens,); ``labels`` are -100 outside the targets."""
        if self.format == "text":
            return self._encode_texts(rows, processor)
        return [self._encode_chat(row, processor) for row in rows]

    def _encode_texts(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        control = control_tokens(processor)
        texts = [_text_or_rejected(row, control) for row in rows]
        usable = [text for text in texts if isinstance(text, str)]
        encoded = iter(token_ids(usable, processor, add_special_tokens=False))
        return [
            text if isinstance(text, Rejected) else self._example(*_ended(next(encoded), processor))
            for text in texts
        ]

    def _encode_chat(self, row: Row, processor: Processor) -> Encoded:
        try:
            return self._example(*encode_chat(messages_of(row), processor))
        except DataError as error:
            return Rejected(str(error))

    def _example(self, ids: list[int], is_target: list[bool]) -> Encoded:
        truncated = max(0, len(ids) - self.max_length)
        input_ids = np.asarray(ids[: self.max_length], dtype=np.int32)
        labels = np.where(is_target[: self.max_length], input_ids, IGNORED).astype(np.int32)
        if not (labels[1:] != IGNORED).any():
            if self.format == "text":
                return Rejected("text is too short to predict a token")
            within = f" within the first {self.max_length} of {len(ids)} tokens"
            return Rejected("messages have no assistant turn" + (within if truncated else ""))
        return Example({"input_ids": input_ids, "labels": labels}, len(input_ids), truncated)

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids``, ``attention_mask``, ``labels`` (batch, tokens), padded on the right."""
        ids = [example.arrays["input_ids"] for example in examples]
        labels = [example.arrays["labels"] for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": pad(labels, IGNORED),
        }

    def pack(self, groups: Sequence[Sequence[Example]], processor: Processor) -> Batch:
        """``input_ids``, ``position_ids``, ``labels`` (groups, tokens), and no attention mask.

        transformers isolates sequences where ``position_ids`` start again at zero. The first
        token of each sequence is no target; padding is one more sequence, of no targets.
        """
        width = max(sum(example.length for example in group) for group in groups)
        shape = (len(groups), width)
        batch = {
            "input_ids": np.full(shape, processor.pad_token_id, dtype=np.int64),
            "position_ids": np.zeros(shape, dtype=np.int64),
            "labels": np.full(shape, IGNORED, dtype=np.int64),
        }
        for row, group in enumerate(groups):
            start = 0
            for example in group:
                span = slice(start, start + example.length)
                batch["input_ids"][row, span] = example.arrays["input_ids"]
                batch["position_ids"][row, span] = np.arange(example.length)
                batch["labels"][row, span] = example.arrays["labels"]
                batch["labels"][row, start] = IGNORED
                start += example.length
            batch["position_ids"][row, start:] = np.arange(width - start)
        return batch

    def num_targets(self, batch: Batch) -> int:
        """The number of tokens that are predicted: the first of a row never is."""
        return int((batch["labels"][:, 1:] != IGNORED).sum())

    def has_target(self, example: Example) -> bool:
        """See `Task.has_target`; the first token is never predicted."""
        return bool((example.arrays["labels"][1:] != IGNORED).any())

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of each target given what comes before it.

        ``labels`` may be one more than the tokens, where those are a part of a longer sequence.
        """
        is_target_BT = batch["labels"][:, 1:] != IGNORED
        targets_N = batch["labels"][:, 1:][is_target_BT]
        inputs: dict[str, Any] = {name: batch[name] for name in batch if name != "labels"}
        inputs["use_cache"] = False  # else packed sequences would not be apart
        if len(is_target_BT) == 1 and can_choose_logits(model):
            places_K = is_target_BT[0].nonzero().flatten()
            places_K = places_K if len(places_K) else places_K.new_zeros(1)
            logits_KV = model(**inputs, logits_to_keep=places_K).logits[0]
        else:
            logits_BTV = model(**inputs).logits
            predicting_BTV = logits_BTV[:, : is_target_BT.shape[1]]
            logits_KV = predicting_BTV[is_target_BT] if len(targets_N) else logits_BTV[0]
        logits_NV = logits_KV[: len(targets_N)].float()
        loss_sum = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        loss_sum = loss_sum + 0.0 * logits_KV[:1, :1].float().sum()  # keeps the graph attached
        return Loss(loss_sum, len(targets_N), logits_NV, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """See `score_targets`; a token is predicted from what stands before it."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return score_targets(model(inputs)["logits"][:, :-1], batch["labels"][:, 1:])


def _text_or_rejected(row: Row, control: frozenset[str]) -> str | Rejected:
    try:
        return without_tokens(running_text(row), control)
    except DataError as error:
        return Rejected(str(error))


def encode_text_prompt(text: str, processor: Processor) -> list[int]:
    """The token ids after which ``text`` goes on; what training on raw text saw there.

    As there, control tokens that the text spells are taken out.
    """
    plain = without_tokens(text, control_tokens(processor))
    (ids,) = token_ids([plain], processor, add_special_tokens=False)
    return [*_beginning(processor), *prompt_ids(processor), *ids]


def _beginning(processor: Processor) -> list[int]:
    return [] if processor.bos_token_id is None else [processor.bos_token_id]


def _ended(ids: list[int], processor: Processor) -> tuple[list[int], list[bool]]:
    """The tokens of a text with what begins and ends one; all but a prompt are learned."""
    start = _beginning(processor)
    prompt = prompt_ids(processor)
    end = [] if processor.eos_token_id is None else [processor.eos_token_id]
    is_target = [True] * len(start) + [False] * len(prompt) + [True] * len([*ids, *end])
    return [*start, *prompt, *ids, *end], is_target


def running_text(row: Row) -> str:
    """A row's ``text``, or the contents of its ``messages`` joined; DataError without either."""
    text = row.get("text")
    if isinstance(text, str) and text.strip():
        return text
    if row.get("messages") is not None:
        return "\n".join(message.content for message in messages_of(row))
    raise DataError("text is missing or empty")
