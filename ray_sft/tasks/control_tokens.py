"""The tokens that structure a model's input, and text without them.

What a person writes must stay text: where it spells such a token, a conversation could be forged.
"""

import re
from collections.abc import Collection

from ray_sft.tasks.base import Processor

__all__ = ["control_tokens", "without_tokens"]


def control_tokens(processor: Processor) -> frozenset[str]:
    """Every special token, and every added token that the chat template writes.

    Some families (DeepSeek) do not declare the markers of a turn as special, and others (Llama 3)
    do not name them among the tokenizer's attributes. Added words that no template writes are
    ordinary vocabulary.
    """
    template = str(processor.chat_template or "")
    added = processor.added_tokens_decoder.values()
    marked = (token.content for token in added if token.special or token.content in template)
    return frozenset(marked) | frozenset(processor.all_special_tokens)


def without_tokens(text: str, tokens: Collection[str]) -> str:
    """``text`` in which none of ``tokens`` stands, nor comes about where one was taken out."""
    if not any(token in text for token in tokens):
        return text
    pattern = re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True) if t))
    former = ""
    while text != former:
        former, text = text, pattern.sub("", text)
    return text
