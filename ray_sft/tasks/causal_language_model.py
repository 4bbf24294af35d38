"""Causal language modelling: raw text, or conversations of which only the replies are learned.

A conversation is rendered by the tokenizer's own chat template. The loss mask comes from the
structure of that text: the characters between "the assistant's turn begins" and "the assistant's
turn has ended" are targets, its end-of-turn token included. It never comes from ``id == pad``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from ray_sft.core import DataError
from ray_sft.tasks.base import (
    IGNORED,
    Batch,
    Encoded,
    Example,
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

__all__ = [
    "CausalLanguageModel",
    "ChatRequest",
    "LanguageModelScore",
    "Message",
    "encode_prompt",
    "render",
    "running_text",
]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """A conversation; its assistant turns are what is scored."""

    messages: list[Message] = Field(min_length=1)


class LanguageModelScore(BaseModel):
    """How well the model predicts the targets of one example."""

    loss_sum: float
    """Negative log-likelihood of the targets in nats."""
    num_targets: int


class LanguageModelMetrics(Metrics):
    """Loss per target token in nats, and its exponential."""

    def __init__(self) -> None:
        """An empty accumulator."""
        self.loss_sums: list[float] = []
        self.num_targets = 0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`."""
        assert len(responses) == len(examples)
        for response in responses:
            assert isinstance(response, LanguageModelScore)
            self.loss_sums.append(response.loss_sum)
            self.num_targets += response.num_targets

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.loss_sums += other.loss_sums
        self.num_targets += other.num_targets

    def compute(self) -> dict[str, float]:
        """``loss`` (nats a target token), ``perplexity``, ``num_targets`` and ``num_rows``."""
        total = float(np.sum(np.sort(self.loss_sums)))  # sorted: independent of the order of rows
        loss = total / self.num_targets if self.num_targets else float("nan")
        return {
            "loss": loss,
            "perplexity": float(np.exp(min(loss, 700.0))),
            "num_targets": float(self.num_targets),
            "num_rows": float(len(self.loss_sums)),
        }


class CausalLanguageModel(Task):
    """Next-token prediction on conversations (replies only) or on raw text (every token)."""

    columns: ClassVar[Mapping[str, str]] = {
        "messages": "a list of {role, content}; with format: chat",
        "text": "running text; with format: text (messages are joined where it is missing)",
    }
    head: ClassVar[Literal["sequence_classification", "causal_lm"]] = "causal_lm"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("loss", "min")
    can_pack: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = ChatRequest
    Response: ClassVar[type[BaseModel]] = LanguageModelScore

    kind: Literal["causal_language_model"] = "causal_language_model"
    format: Literal["chat", "text"] = "chat"
    """``chat`` trains the assistant's turns of ``messages``, ``text`` every token of ``text``."""
    max_length: int = Field(default=512, ge=8, le=131072)
    """The longest example in tokens; training cuts longer ones at the end and counts them."""

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` and ``labels`` (tokens,); ``labels`` are -100 outside the targets."""
        return [self._encode_row(row, processor) for row in rows]

    def _encode_row(self, row: Row, processor: Processor) -> Encoded:
        try:
            if self.format == "text":
                ids, is_target = _encode_text(running_text(row), processor)
            else:
                ids, is_target = _encode_chat(_messages(row), processor)
        except DataError as error:
            return Rejected(str(error))
        truncated = max(0, len(ids) - self.max_length)
        input_ids = np.asarray(ids[: self.max_length], dtype=np.int32)
        labels = np.where(is_target[: self.max_length], input_ids, IGNORED).astype(np.int32)
        if not (labels[1:] != IGNORED).any():
            why = " within max_length" if truncated else ""
            return Rejected(
                f"no token to learn{why}: no assistant turn"
                if self.format == "chat"
                else "text is too short to predict a token"
            )
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

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of each target given what comes before it."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        # use_cache=True would switch off the isolation of packed sequences
        logits_BTV = model(**inputs, use_cache=False).logits
        targets_BT = batch["labels"][:, 1:]
        is_target_BT = targets_BT != IGNORED
        logits_NV = logits_BTV[:, :-1][is_target_BT].float()
        targets_N = targets_BT[is_target_BT]
        loss_sum = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        loss_sum = loss_sum + 0.0 * logits_BTV[:, :1, :1].float().sum()  # keeps the graph attached
        return Loss(loss_sum, len(targets_N), {"logits": logits_BTV})

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``loss_sum`` (nats) and ``num_targets``, both (batch,)."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits_BTV = model(inputs)["logits"][:, :-1]
        targets_BT = batch["labels"][:, 1:]
        loss_sums = np.zeros(len(targets_BT))
        for row, (logits_TV, targets_T) in enumerate(zip(logits_BTV, targets_BT, strict=True)):
            positions = np.flatnonzero(targets_T != IGNORED)
            chosen_NV = logits_TV[positions].astype(np.float64)
            top_N = chosen_NV.max(axis=-1, initial=-np.inf)
            log_sum_N = top_N + np.log(np.exp(chosen_NV - top_N[:, None]).sum(axis=-1))
            loss_sums[row] = (
                log_sum_N - chosen_NV[np.arange(len(positions)), targets_T[positions]]
            ).sum()
        return {"loss_sum": loss_sums, "num_targets": (targets_BT != IGNORED).sum(axis=1)}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """A `LanguageModelScore` per example."""
        del processor, examples
        return [
            LanguageModelScore(loss_sum=float(loss_sum), num_targets=int(num_targets))
            for loss_sum, num_targets in zip(
                outputs["loss_sum"], outputs["num_targets"], strict=True
            )
        ]

    def metrics(self) -> Metrics:
        """See `LanguageModelMetrics`."""
        return LanguageModelMetrics()


def render(
    messages: Sequence[Message], processor: Processor, *, add_generation_prompt: bool
) -> str:
    """The conversation as the text that the chat template makes of it.

    Special tokens that stand in a message's content are taken out: a user must not be able to
    end his own turn and write the assistant's.
    """
    turns = [
        {"role": message.role, "content": _without_special_tokens(message.content, processor)}
        for message in messages
    ]
    text: str = processor.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def encode_prompt(messages: Sequence[Message], processor: Processor) -> list[int]:
    """The token ids after which the assistant's reply begins; what training saw there."""
    text = render(messages, processor, add_generation_prompt=True)
    ids: list[int] = processor(text, add_special_tokens=False)["input_ids"]
    return ids


def _without_special_tokens(content: str, processor: Processor) -> str:
    for token in processor.all_special_tokens:
        content = content.replace(token, "")
    return content


def _encode_chat(messages: Sequence[Message], processor: Processor) -> tuple[list[int], list[bool]]:
    text = render(messages, processor, add_generation_prompt=False)
    spans = [
        _reply_span(messages[: index + 1], text, processor)
        for index, message in enumerate(messages)
        if message.role == "assistant"
    ]
    encoded = processor(text, add_special_tokens=False, return_offsets_mapping=True)
    is_target = [
        any(start <= first and last <= end for start, end in spans) and last > first
        for first, last in encoded["offset_mapping"]
    ]
    return encoded["input_ids"], is_target


def _reply_span(messages: Sequence[Message], text: str, processor: Processor) -> tuple[int, int]:
    """Where the last of ``messages``, an assistant's turn, stands in the rendered text."""
    before = render(messages[:-1], processor, add_generation_prompt=True)
    through = render(messages, processor, add_generation_prompt=False)
    if not (text.startswith(through) and through.startswith(before)):
        raise DataError(
            "the chat template does not render a conversation as a prefix of its continuation, "
            "so the assistant's turns cannot be told apart. Use a template that does."
        )
    return len(before), len(through)


def _encode_text(text: str, processor: Processor) -> tuple[list[int], list[bool]]:
    ids = list(
        processor(_without_special_tokens(text, processor), add_special_tokens=False)["input_ids"]
    )
    if processor.bos_token_id is not None:
        ids.insert(0, processor.bos_token_id)
    if processor.eos_token_id is not None:
        ids.append(processor.eos_token_id)
    return ids, [True] * len(ids)


def _messages(row: Row) -> list[Message]:
    turns = row.get("messages")
    if turns is None or len(turns) == 0:
        raise DataError("messages are missing or empty")
    try:
        return [Message.model_validate(_plain(turn)) for turn in turns]
    except ValueError as error:
        problem = str(error).splitlines()
        raise DataError("messages are malformed: " + " ".join(problem[1:3])) from None


def _plain(turn: Any) -> Any:
    """A turn without the empty fields that a columnar file adds to it."""
    return {k: v for k, v in turn.items() if v is not None} if isinstance(turn, Mapping) else turn


def running_text(row: Row) -> str:
    """A row's ``text``, or the contents of its ``messages`` joined; DataError without either."""
    text = row.get("text")
    if isinstance(text, str) and text.strip():
        return text
    if row.get("messages") is not None:
        return "\n".join(message.content for message in _messages(row))
    raise DataError("text is missing or empty")
