"""A thread for what blocks, with a limit on how much may wait for it."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from serve.errors import ApiError

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """Runs one function after the other, off the event loop. Use it from one event loop."""

    def __init__(self, *, max_waiting: int) -> None:
        """At most ``max_waiting`` calls wait or run."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recommend")
        self._max_waiting = max_waiting
        self._num_waiting = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns.

        Raises:
            ApiError: 429 where too many wait, 503 where the database does not answer.
        """
        if self._num_waiting >= self._max_waiting:
            raise ApiError(
                429,
                f"{self._num_waiting} requests wait for the recommender and {self._max_waiting} "
                "may. Come again in 1 s.",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        self._num_waiting += 1
        try:
            future = self._executor.submit(function, *args, **kwargs)
            return await asyncio.wrap_future(future)
        except SQLAlchemyError:
            logger.exception("the recommender's database failed")
            raise ApiError(
                503,
                "the recommender's database does not answer. Try again.",
                code="database_unavailable",
                headers={"retry-after": "5"},
            ) from None
        finally:
            self._num_waiting -= 1

    async def close(self) -> None:
        """Waits for what runs."""
        await asyncio.to_thread(self._executor.shutdown)
