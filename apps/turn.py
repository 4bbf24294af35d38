"""Whose turn it is to change a page, for work that is stopped while it runs."""

from dataclasses import dataclass

__all__ = ["Turn"]


@dataclass(slots=True)
class Turn:
    """A number that grows with everything that is begun or ended; it is changed in place.

    Gradio cancels what runs a moment after it has answered the click that stopped it, and repeats
    the last thing that was shown when it ends. So what runs looks before it speaks.
    """

    number: int = 0

    def take(self) -> int:
        """Begins another turn, which ends the one before."""
        self.number += 1
        return self.number

    def is_over(self, number: int) -> bool:
        """Whether another turn has begun since."""
        return self.number != number
