"""Waiting for what happens elsewhere, not for longer than a test may."""

import asyncio
import time
from collections.abc import Callable

__all__ = ["async_wait_until", "wait_until"]


def wait_until(
    condition: Callable[[], object], *, timeout_s: float = 10.0, every_s: float = 0.01
) -> None:
    """Returns when ``condition`` holds; fails where that takes too long."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(every_s)


async def async_wait_until(
    condition: Callable[[], object], *, timeout_s: float = 10.0, every_s: float = 0.01
) -> None:
    """As `wait_until`, letting the event loop turn."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        await asyncio.sleep(every_s)
