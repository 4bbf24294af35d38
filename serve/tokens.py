"""Texts as tokens and back, as a model of the service reads them. Nothing here knows HTTP.

What a task puts around a text (special tokens, the pattern of a cloze) is put there by the task
itself, so that what is counted here is what a request is counted with. Nothing is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ray_sft.core import DataError
from ray_sft.tasks import (
    CausalLanguageModel,
    Embedding,
    Example,
    LabelledText,
    Processor,
    Ranking,
    Task,
    TokenClassification,
    Translation,
)
from ray_sft.tasks.causal_language_model import Message, encode_prompt, encode_text_prompt
from ray_sft.tasks.token_ids import token_ids

__all__ = ["Offsets", "TokenizedText", "detokenize", "tokenize_messages", "tokenize_texts"]

Offsets: TypeAlias = list[tuple[int, int] | None]

_TEXT_TASKS = (LabelledText, TokenClassification, Embedding, Translation)
_UNCUT = 1 << 30


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text as a model reads it."""

    ids: list[int]
    tokens: list[str]
    """How the vocabulary spells them."""
    offsets: Offsets | None
    """Where each token begins and ends in the text, in Unicode code points; None for a token that
    does not come from the text, and None for all where the tokenizer does not tell."""


def tokenize_texts(
    texts: Sequence[str], task: Task, processor: Processor, *, add_special_tokens: bool
) -> list[TokenizedText]:
    """The tokens of each text; ``add_special_tokens``: with what the task puts around it."""
    read = (
        _as_read(texts, task, processor)
        if add_special_tokens
        else token_ids(texts, processor, add_special_tokens=False)
    )
    return [
        TokenizedText(ids, processor.convert_ids_to_tokens(ids), offsets)
        for ids, offsets in zip(read, _offsets(texts, read, processor), strict=True)
    ]


def tokenize_messages(messages: Sequence[Message], processor: Processor) -> TokenizedText:
    """The tokens after which the reply to a conversation begins.

    Raises:
        DataError: there is no chat template, or it refuses the conversation.
    """
    ids = encode_prompt(messages, processor)
    return TokenizedText(ids, processor.convert_ids_to_tokens(ids), None)


def detokenize(ids: Sequence[int], processor: Processor, *, skip_special_tokens: bool) -> str:
    """The text that token ids spell.

    Raises:
        DataError: an id is not in the vocabulary.
    """
    size = len(processor)
    for place, token in enumerate(ids):
        # a tokenizer in Python answers for any number, one in Rust only for those that it has
        if not 0 <= token < size or processor.convert_ids_to_tokens(token) is None:
            raise DataError(
                f"id {token} at place {place} is not in the vocabulary, which has the ids 0 to "
                f"{size - 1}."
            )
    text: str = processor.decode(list(ids), skip_special_tokens=skip_special_tokens)
    return text


def _as_read(texts: Sequence[str], task: Task, processor: Processor) -> list[list[int]]:
    """The ids of each text as the task encodes it, or as the tokenizer does where it refuses."""
    if isinstance(task, CausalLanguageModel):
        return [encode_text_prompt(text, processor) for text in texts]
    column = _column(task)
    if column is None:
        return token_ids(texts, processor, add_special_tokens=True)
    uncut = task.model_copy(update={"max_length": _UNCUT})
    encoded = uncut.encode([{column: text} for text in texts], processor)
    return [
        one.arrays["input_ids"].tolist()
        if isinstance(one, Example)
        else token_ids([text], processor, add_special_tokens=True)[0]
        for text, one in zip(texts, encoded, strict=True)
    ]


def _column(task: Task) -> str | None:
    """The column of a row that a text stands in; None for a task that reads more than a text."""
    if isinstance(task, Ranking):
        return "candidate"
    return "text" if isinstance(task, _TEXT_TASKS) else None


def _offsets(
    texts: Sequence[str], read: Sequence[list[int]], processor: Processor
) -> list[Offsets | None]:
    """Where the tokens of ``read`` stand in their texts."""
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        return [None] * len(texts)
    # a call of the processor could change its settings under a thread that encodes, this does not
    bare = backend.encode_batch(list(texts), add_special_tokens=False)
    return [_placed(ids, one.ids, one.offsets) for ids, one in zip(read, bare, strict=True)]


def _placed(ids: list[int], own: list[int], places: Sequence[tuple[int, int]]) -> Offsets | None:
    """The ``places`` of a text's ``own`` ids, put where these stand among ``ids``."""
    if not own:
        return [None] * len(ids)
    last = len(ids) - len(own)
    starts = [start for start in range(last + 1) if ids[start : start + len(own)] == own]
    if len(starts) != 1:  # words that are spelled otherwise, or a pattern that says the same
        return None
    before, after = starts[0], last - starts[0]
    return [*[None] * before, *places, *[None] * after]
