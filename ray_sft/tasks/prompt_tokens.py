"""The tokens of a soft prompt: words without a spelling of their own, whose embeddings are trained.

A tokenizer that has them puts them behind what begins an input, before every text; its file says
so, and other programs that read the file do the same. This one says how they are called.
"""

from ray_sft.tasks.base import Processor

__all__ = ["prompt_ids", "prompt_tokens"]


def prompt_tokens(num_tokens: int) -> tuple[str, ...]:
    """The names of the tokens of a prompt, in their order."""
    return tuple(f"<|prompt_{number}|>" for number in range(num_tokens))


def prompt_ids(processor: Processor) -> list[int]:
    """The ids of the prompt that a tokenizer puts before texts; nearly always an empty list."""
    ids: list[int] = []
    while True:
        found = processor.convert_tokens_to_ids(prompt_tokens(len(ids) + 1)[-1])
        if found is None or found == processor.unk_token_id:
            return ids
        ids.append(found)
