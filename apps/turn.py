"""Whose turn it is to change a page, for work that is stopped while it runs."""

from dataclasses import dataclass

__all__ = ["Turn"]


@dataclass(slots=True)
class Turn:
    """A number that grows with everything that is begun or ended; it is changed in place.

    Gradio cancels what runs a moment after it has answered the click that stopped it, and repeats
    the last thing that was shown when it ends. So what runs looks before it speaks. And whoever
    only draws a page anew leaves alone what has changed, or is about to, since it was read.
    """

    number: int = 0
    is_taken: bool = False
    """Whether something runs that will still change the page."""

    def take(self) -> int:
        """Begins another turn, which ends the one before."""
        self.number += 1
        self.is_taken = True
        return self.number

    def give_back(self) -> None:
        """Ends a turn, or whatever runs; another number, so that it is over."""
        self.number += 1
        self.is_taken = False

    def is_over(self, number: int) -> bool:
        """Whether another turn has begun since."""
        return self.number != number
