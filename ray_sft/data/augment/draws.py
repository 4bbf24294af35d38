"""The random numbers of one changed copy."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import log, log1p
from struct import Struct
from typing import TypeVar

import numpy as np

__all__ = ["Draws"]

T = TypeVar("T")

_BLOCK = Struct("<8Q")


class Draws:
    """Random numbers that follow from a key alone, such as a seed, a row and an operation.

    A counter hashed with the key, by BLAKE2b: see Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3". A copy needs few numbers, and a generator with a state of its own takes ten
    times as long to seed as these take to draw.
    """

    __slots__ = ("_key", "_num_blocks", "_numbers")

    def __init__(self, *key: int) -> None:
        """Numbers of their own for every ``key``."""
        self._key = ",".join(map(str, key)).encode()
        self._num_blocks = 0
        self._numbers: list[int] = []

    def bits(self) -> int:
        """A whole number of 64 bits."""
        if not self._numbers:
            counter = self._num_blocks.to_bytes(8, "little")
            self._numbers += _BLOCK.unpack(blake2b(counter + self._key).digest())
            self._num_blocks += 1
        return self._numbers.pop()

    def random(self) -> float:
        """From 0 up to 1, which never comes."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, bound: int) -> int:
        """A whole number from 0 up to ``bound``, which never comes."""
        return self.bits() * bound >> 64

    def choice(self, values: Sequence[T]) -> T:
        """One of the values, of which there is one at least."""
        return values[self.below(len(values))]

    def order(self, count: int) -> Iterator[int]:
        """The numbers below ``count`` in some order, drawn as they are taken."""
        left = list(range(count))
        for last in range(count - 1, -1, -1):
            place = self.below(last + 1)
            yield left[place]
            left[place] = left[last]

    def hits(self, count: int, rate: float) -> list[int]:
        """Which of ``count`` events of chance ``rate`` each happen, in order.

        Draws a number for each that does: the gaps between them follow the geometric
        distribution.
        """
        if rate >= 1:
            return list(range(count))
        found: list[int] = []
        place = 0
        while rate > 0:
            gap = log(1 - self.random()) / log1p(-rate)
            if gap >= count - place:
                break
            place += int(gap) + 1
            found.append(place - 1)
        return found

    def generator(self) -> np.random.Generator:
        """For an operation that needs whole arrays of numbers."""
        return np.random.default_rng(self.bits())
