"""A replay against a clock of its own."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from apps import ServiceError
from apps.item_files import NewItem
from apps.replay import AT_ONCE, replay
from apps.replies.monitor import Posted

START = datetime(2025, 3, 3, tzinfo=UTC)


class World:
    """A clock that moves only where somebody sleeps, and a service that takes everything."""

    def __init__(self, busy=()):
        self.now = 100.0
        self.sent = []
        self.busy = list(busy)

    async def sleep(self, seconds):
        self.now += seconds

    async def send(self, items):
        if self.busy:
            raise self.busy.pop(0)
        self.sent.append((self.now - 100.0, [item["id"] for item in items]))
        return Posted(accepted=len(items))

    def play(self, items, speed):
        async def run():
            steps = replay(items, self.send, speed=speed, clock=lambda: self.now, sleep=self.sleep)
            return [progress async for progress in steps]

        return asyncio.run(run())


def items(*hours):
    return [
        NewItem(id=f"{number}", time=START + timedelta(hours=hour), text="x")
        for number, hour in enumerate(hours)
    ]


def test_an_item_is_sent_once_its_time_has_come_and_no_earlier():
    world = World()
    hours = (0, 1, 1.5, 30, 31)
    played = world.play(items(*hours), 3600)  # an hour in a second
    for at, ids in world.sent:
        for name in ids:
            assert hours[int(name)] <= at < hours[int(name)] + 0.5
    assert [name for _, ids in world.sent for name in ids] == ["0", "1", "2", "3", "4"]
    assert played[-1].sent == played[-1].accepted == 5
    assert played[0].sent == 0


def test_at_once_waits_for_nothing_and_sends_in_batches():
    world = World()
    world.play(items(*range(250)), AT_ONCE)
    assert [(at, len(ids)) for at, ids in world.sent] == [(0.0, 100), (0.0, 100), (0.0, 50)]


def test_a_service_that_is_too_busy_is_asked_again_when_it_says():
    busy = ServiceError("full", status=429, retry_after_s=7.0)
    world = World([busy, ServiceError("full", status=429)])
    world.play(items(0), AT_ONCE)
    assert world.sent == [(8.0, ["0"])]  # 7 s as told, then 1 s


@pytest.mark.parametrize(
    ("problem", "num_times"),
    [(ServiceError("no", status=400), 1), (ServiceError("full", status=429), 8)],
)
def test_a_refusal_ends_it(problem, num_times):
    world = World([problem] * 50)
    with pytest.raises(ServiceError):
        world.play(items(0), AT_ONCE)
    assert len(world.busy) == 50 - num_times


def test_what_the_service_says_is_added_up():
    class Picky(World):
        async def send(self, items):
            reply = {"accepted": 1, "duplicates": len(items) - 2, "rejected": [{"reason": "bad"}]}
            return Posted.model_validate(reply)

    last = Picky().play(items(*range(150)), AT_ONCE)[-1]
    assert (last.accepted, last.duplicates, last.rejected, last.reason) == (2, 146, 2, "bad")
