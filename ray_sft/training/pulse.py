"""Where each worker is, told from time to time, so that a run that hangs can say on whom it waits.

A worker that hangs cannot speak for itself: all that the others know is that a collective does not
end. Each worker notes what it does; a thread of its own passes that on every few seconds. Who is
behind the others, or has gone silent, is whom they wait for.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

__all__ = ["EVERY_S", "PHASES", "Pulse", "Pulses"]

EVERY_S: Final = 5.0
"""How often a worker passes on where it is."""
PHASES: Final = ("reads rows", "waits for the others", "computes", "evaluates", "saves")
"""What a worker does in a step, in this order."""
_SILENT_S: Final = 4 * EVERY_S


class Pulse:
    """A worker's side: a context in which its place is passed on."""

    def __init__(self, send: Callable[[int, str], object]) -> None:
        """``send`` gets the step and the phase, in another thread."""
        self._send = send
        self._place = (0, PHASES[0])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        """Begins to pass on."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it."""
        self._stop.set()

    def note(self, step: int, phase: str) -> None:
        """Says where this worker is; costs nothing."""
        self._place = (step, phase)

    def _beat(self) -> None:
        self._send(*self._place)
        while not self._stop.wait(EVERY_S):
            self._send(*self._place)


@dataclass(slots=True)
class _Place:
    step: int
    phase: str
    since: float
    heard: float

    @property
    def order(self) -> tuple[int, int]:
        return self.step, PHASES.index(self.phase)


class Pulses:
    """The other side: where all workers are."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Knows of no worker yet."""
        self._clock = clock
        self._places: dict[int, _Place] = {}

    def heard(self, rank: int, step: int, phase: str) -> None:
        """Takes a worker's place."""
        now, former = self._clock(), self._places.get(rank)
        moved = former is None or (former.step, former.phase) != (step, phase)
        since = now if former is None or moved else former.since
        self._places[rank] = _Place(step, phase, since, now)

    def stall(self, patience_s: float) -> str:
        """On whom the others have been waiting for so long, in a sentence; empty if on none."""
        if len(self._places) < 2:
            return ""
        now = self._clock()
        still_s = now - max(place.since for place in self._places.values())
        if still_s < patience_s:
            return ""
        silent = [r for r, place in self._places.items() if now - place.heard > _SILENT_S]
        first = min(place.order for place in self._places.values())
        behind = [r for r, place in self._places.items() if place.order == first]
        late = silent or behind
        if len(late) == len(self._places) or not late:
            return ""
        names = ", ".join(str(rank) for rank in sorted(late))
        place = self._places[late[0]]
        verb = "has been silent" if silent else f"still {place.phase}"
        return (
            f"Nothing has moved for {still_s:.0f} s: worker {names} {verb} in step "
            f"{place.step + 1}, and the others wait for it."
        )
