"""Asking: in a closed loop, where each connection waits for its answer, or by the clock.

A closed loop sends less when the service gets slow, and so never sees the requests that would have
waited ("coordinated omission"). By the clock, requests come whether or not earlier ones are
answered, and their latency counts from when they were to be sent, also where no connection was
free.
"""

import asyncio
import random
from collections.abc import Iterator
from itertools import count
from time import perf_counter, process_time

from apps.bench.connection import Connection
from apps.bench.plan import Plan
from apps.bench.records import Records
from apps.bench.wire import address_of

__all__ = ["Load", "arrival_times"]

_PAUSE_S = 0.1
"""Of a connection that got no reply: a service that is away is not asked in a busy loop."""
_LOOK_EVERY_S = 0.05


class Load:
    """One run of a plan; its figures may be looked at while it runs."""

    def __init__(self, plan: Plan, requests: list[bytes]) -> None:
        """Nothing is sent before `run`."""
        self.plan = plan
        self.records = Records()
        self.messages: dict[str, str] = {}
        """What the service said first, by the code of a failure."""
        self.unsent = 0
        """Requests of the clock for which no connection was free before the end."""
        self.late_s: list[float] = []
        """How late this program woke up, looked at now and then: whether it had a core."""
        self.core_share = 0.0
        """Of one core, that this program used while it measured."""
        self.begins_at = self.ends_at = 0.0
        """Between them it is measured."""
        self.requests = requests
        self._number = count()

    async def run(self) -> None:
        """Sends until the time is over, and waits for the last answers."""
        start = perf_counter()
        self.begins_at = start + self.plan.warmup_s
        self.ends_at = self.begins_at + self.plan.duration_s
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            send = self._send_closed if self.plan.rate is None else self._send_open
            await send(start)
            watching.cancel()

    async def _send_closed(self, start: float) -> None:
        del start
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.plan.connections):
                tasks.create_task(self._ask_again_and_again())

    async def _ask_again_and_again(self) -> None:
        connection = self._connect()
        while (now := perf_counter()) < self.ends_at:
            await self._ask(connection, start=now)
        connection.close()

    async def _send_open(self, start: float) -> None:
        assert self.plan.rate is not None
        due: asyncio.Queue[float | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.plan.connections):
                tasks.create_task(self._ask_when_due(due))
            for time in arrival_times(self.plan.rate, self.plan.arrivals, seed=0):
                wait_s = start + time - perf_counter()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                if start + time >= self.ends_at:
                    break
                due.put_nowait(start + time)
            for _ in range(self.plan.connections):
                due.put_nowait(None)

    async def _ask_when_due(self, due: "asyncio.Queue[float | None]") -> None:
        connection = self._connect()
        while (start := await due.get()) is not None:
            if perf_counter() < self.ends_at:
                await self._ask(connection, start=start)
            else:
                self.unsent += 1
        connection.close()

    async def _ask(self, connection: Connection, *, start: float) -> None:
        request = self.requests[next(self._number) % len(self.requests)]
        reader = await connection.ask(request, start=start)
        if start < self.begins_at:
            reader.outcome.gaps_s = None
        self.records.add(reader.outcome)
        code = reader.outcome.code
        if code is not None and code not in self.messages:
            self.messages[code] = reader.message or ""
        if reader.outcome.status is None:
            await asyncio.sleep(_PAUSE_S)

    def _connect(self) -> Connection:
        return Connection(address_of(self.plan.url), timeout_s=self.plan.timeout_s)

    async def _watch(self) -> None:
        """Looks after this program itself, while it measures."""
        await asyncio.sleep(self.begins_at - perf_counter())
        start, used = perf_counter(), process_time()
        while (now := perf_counter()) < self.ends_at:
            self.core_share = (process_time() - used) / max(now - start, _LOOK_EVERY_S)
            await asyncio.sleep(_LOOK_EVERY_S)
            self.late_s.append(perf_counter() - now - _LOOK_EVERY_S)


def arrival_times(rate: float, arrivals: str, *, seed: int) -> Iterator[float]:
    """Seconds from the beginning at which requests come, without end.

    ``poisson``: gaps are exponential, as of many users who know nothing of each other;
    ``constant``: gaps are equal.
    """
    draw = random.Random(seed)
    time = 0.0
    for number in count(1):
        yield time
        time = number / rate if arrivals == "constant" else time + draw.expovariate(rate)
