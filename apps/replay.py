"""Playing items into the monitor faster than they happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from apps.client import ServiceError
from apps.item_files import NewItem
from apps.replies.monitor import Posted

__all__ = ["AT_ONCE", "Progress", "replay"]

AT_ONCE = 0
"""The speed that waits for nothing."""
_BATCH = 100
"""Items of one request."""
_PAUSE_S = 0.4
"""Between two requests, unless nothing is waited for."""
_MAX_TRIES = 8
"""Of one request that the service is too busy for."""

Send = Callable[[Sequence[dict[str, object]]], Awaitable[Posted]]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is."""

    num_items: int
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    reason: str = ""
    """Why the first rejected item was."""
    at: datetime | None = None
    """How far the time of the items is."""

    def after(self, batch: Sequence[NewItem], posted: Posted) -> "Progress":
        """With one more batch."""
        first = posted.rejected[0].reason if posted.rejected else ""
        return replace(
            self,
            sent=self.sent + len(batch),
            accepted=self.accepted + posted.accepted,
            duplicates=self.duplicates + posted.duplicates,
            rejected=self.rejected + len(posted.rejected),
            reason=self.reason or first,
            at=batch[-1].time,
        )


async def replay(
    items: Sequence[NewItem],
    send: Send,
    *,
    speed: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[Progress]:
    """Sends items as their time comes, ``speed`` times as fast as they happened.

    Args:
        items: in the order of time.
        send: what takes a batch of them.
        speed: seconds of theirs in one of ours; `AT_ONCE` sends as fast as the service takes them.
        clock: our seconds.
        sleep: waits so many of our seconds.

    Raises:
        ServiceError: the service is away, refuses, or stays too busy.
    """
    progress = Progress(len(items))
    yield progress
    began = clock()
    while progress.sent < len(items):
        due = items[progress.sent : progress.sent + _BATCH]
        if speed != AT_ONCE:
            now = items[0].time + timedelta(seconds=(clock() - began) * speed)
            progress = replace(progress, at=now)
            due = [item for item in due if item.time <= now]
        if due:
            progress = progress.after(due, await _send(due, send, sleep))
        yield progress
        if speed != AT_ONCE and len(due) < _BATCH and progress.sent < len(items):
            await sleep(_PAUSE_S)


async def _send(batch: Sequence[NewItem], send: Send, sleep: Sleep) -> Posted:
    """What became of a batch, which is sent again while the service is too busy for it."""
    trees = [item.tree() for item in batch]
    for _ in range(_MAX_TRIES - 1):
        try:
            return await send(trees)
        except ServiceError as error:
            if error.status != 429:
                raise
            await sleep(error.retry_after_s or 1.0)
    return await send(trees)
