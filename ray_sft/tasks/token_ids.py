"""Texts to token ids, many at a time and no more than that."""

from collections.abc import Sequence

from ray_sft.tasks.base import Processor
from ray_sft.tasks.prompt_tokens import prompt_ids

__all__ = ["edge_ids", "token_ids"]


def token_ids(
    texts: Sequence[str], processor: Processor, *, add_special_tokens: bool
) -> list[list[int]]:
    """The same ids as ``processor(texts)``, uncut and unpadded.

    Where nothing but ids is asked for, `tokenizers` need not follow where each of them stands in
    its text, which is a sixth of its work, nor copy the rest of what it knows into lists.
    """
    if not texts:
        return []
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None or backend.truncation or backend.padding:
        # a call resets what a tokenizer's file says of cutting and padding
        found: list[list[int]] = processor(
            list(texts), add_special_tokens=add_special_tokens, verbose=False
        )["input_ids"]
        return found
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
    return [one.ids for one in encoded]


def edge_ids(processor: Processor) -> tuple[list[int], list[int]]:
    """What stands before a model's input and behind each of its texts: an id, or nothing.

    The prompt of a model that has one begins its input, too.
    """
    return (
        _first_of(processor.cls_token_id, processor.bos_token_id) + prompt_ids(processor),
        _first_of(processor.sep_token_id, processor.eos_token_id),
    )


def _first_of(*ids: int | None) -> list[int]:
    """The first id that there is, in a list; an empty list where there is none."""
    return [found for found in ids if found is not None][:1]
