"""Keys and values of prompts that were read before, for prompts that begin alike.

A service's system prompt is the same for every request, and the next turn of a conversation
begins with the former ones. What both have in common is copied into the slot, not read again.
Whole prompts are kept, the ones used last, up to a number of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ray_sft.tasks import Array

__all__ = ["PrefixCache"]

_LEAST = 16
"""Tokens below which reading is as fast as copying."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    scope: str
    tokens: Array
    state: tuple[Array, ...]


class PrefixCache:
    """Former prompts, the one used last at the end. Use it from one thread."""

    def __init__(self, max_tokens: int) -> None:
        """Holds at most ``max_tokens`` tokens in all; 0: none."""
        self._max_tokens = max_tokens
        self._entries: list[_Entry] = []

    @property
    def num_tokens(self) -> int:
        """Tokens that are held."""
        return sum(len(entry.tokens) for entry in self._entries)

    def find(self, tokens: Sequence[int], *, scope: str) -> tuple[int, tuple[Array, ...]]:
        """How many tokens at the beginning are known, and their state; 0 where too few are.

        At least one token of ``tokens`` is left to be read, since its logits are needed. The
        arrays of the state may hold more positions than that.
        """
        best, num = self._best(tokens[:-1], scope)
        if best is None:
            return 0, ()
        self._entries.remove(best)
        self._entries.append(best)
        return num, best.state

    def wants(self, tokens: Sequence[int], *, scope: str) -> bool:
        """Whether keeping ``tokens`` would make enough of them known that are not yet."""
        if not _LEAST < len(tokens) <= self._max_tokens:
            return False
        _, num = self._best(tokens, scope)
        return len(tokens) - num >= _LEAST

    def keep(self, tokens: Sequence[int], state: tuple[Array, ...], *, scope: str) -> None:
        """Adds a prompt, in place of those that it begins with; the oldest make room."""
        held = np.asarray(tokens)
        self._entries = [
            entry
            for entry in self._entries
            if entry.scope != scope or _num_common(entry.tokens, held) < len(entry.tokens)
        ]
        self._entries.append(_Entry(scope, held, state))
        while self.num_tokens > self._max_tokens:
            del self._entries[0]

    def _best(self, tokens: Sequence[int], scope: str) -> tuple[_Entry | None, int]:
        """The prompt that has most in common with ``tokens``, if enough, and how much that is."""
        wanted = np.asarray(tokens)
        best, num = None, 0
        for entry in self._entries:
            common = _num_common(entry.tokens, wanted) if entry.scope == scope else 0
            if common > max(num, _LEAST - 1):
                best, num = entry, common
        return best, num


def _num_common(one: Array, other: Array) -> int:
    """Tokens that both begin with."""
    size = min(len(one), len(other))
    differ = one[:size] != other[:size]
    return int(differ.argmax()) if differ.any() else size
