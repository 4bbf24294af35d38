"""A run that hangs says on whom it waits."""

import threading

import pytest

from ray_sft.training import pulse
from ray_sft.training.pulse import Pulse, Pulses


class World:
    """Workers whose places are heard every five seconds, and a clock."""

    def __init__(self):
        self.now = 1000.0
        self.pulses = Pulses(clock=lambda: self.now)

    def after(self, seconds, places):
        """Time passes, in which the workers of ``places`` are heard."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 5)
            for rank, place in places.items():
                self.pulses.heard(rank, *place)


@pytest.fixture
def world():
    found = World()
    found.after(5, dict.fromkeys(range(3), (7, "computes")))
    return found


def test_who_is_behind_is_named(world):
    waiting = (8, "waits for the others")
    world.after(60, {0: waiting, 1: (8, "reads rows"), 2: waiting})
    assert world.pulses.stall(60) == ""
    world.after(30, {0: waiting, 1: (8, "reads rows"), 2: waiting})
    found = world.pulses.stall(60)
    assert found.endswith("worker 1 still reads rows in step 9, and the others wait for it."), found
    assert found.startswith("Nothing has moved for 8")


def test_who_is_silent_is_named_even_where_it_was_ahead(world):
    world.after(5, {1: (7, "evaluates")})
    world.after(90, {0: (7, "computes"), 2: (7, "computes")})
    assert "worker 1 has been silent in step 8" in world.pulses.stall(60)


def test_a_long_step_of_all_is_no_stall(world):
    world.after(600, dict.fromkeys(range(3), (8, "computes")))
    assert world.pulses.stall(60) == ""


def test_a_straggler_that_moves_on_is_no_stall(world):
    for step in range(8, 20):
        world.after(
            30, {0: (step, "waits for the others"), 1: (step, "computes"), 2: (19, "saves")}
        )
        assert world.pulses.stall(60) == ""


def test_one_worker_waits_for_nobody():
    world = World()
    world.after(600, {0: (8, "reads rows")})
    assert world.pulses.stall(60) == ""


def test_where_all_are_gone_nobody_is_waited_for(world):
    world.after(600, {})
    assert world.pulses.stall(60) == ""


def test_a_worker_that_was_started_again_is_the_same(world):
    world.after(90, {0: (7, "computes"), 2: (7, "computes")})
    assert "worker 1" in world.pulses.stall(60)
    world.after(5, dict.fromkeys(range(3), (5, "reads rows")))
    assert world.pulses.stall(60) == ""


def test_a_worker_passes_on_where_it_is_and_stops(monkeypatch):
    monkeypatch.setattr(pulse, "EVERY_S", 0.01)
    heard, enough = [], threading.Event()

    def send(step, phase):
        heard.append((step, phase))
        if step == 3:
            enough.set()

    with Pulse(send) as one:
        one.note(3, "computes")
        assert enough.wait(10)
    one._thread.join(10)
    assert not one._thread.is_alive()
    assert heard[-1] == (3, "computes")
