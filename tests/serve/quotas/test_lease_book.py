"""Several replicas and one book: together they admit what one would."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.keys import KeyLimits
from serve.quotas.lease_book import Demand, LeaseBook, Reply
from serve.quotas.leased_account import LeasedAccount

from .clock import Clock

NUM_REPLICAS = 3
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 60)),
        st.tuples(
            st.sampled_from(
                [
                    *("request", "end", "begin", "settle", "reach", "hear", "lose"),
                    *("exchange", "exchange", "drain", "drain"),
                ]
            ),
            st.integers(0, NUM_REPLICAS - 1),
        ),
    ),
    max_size=60,
)
"""Halves of exchanges by themselves, whole ones, and all requests that a replica can get."""


@dataclass
class Replica:
    """One replica, of which every half of an exchange is a step of its own."""

    name: str
    account: LeasedAccount = field(init=False)
    demand: Demand | None = None
    reply: Reply | None = None

    def __post_init__(self) -> None:
        self.account = LeasedAccount("web", lambda _: None)

    def begin(self, *, settle: bool) -> None:
        if self.demand is None:
            self.account.waiting = 1
            say = self.account.settlement if settle else self.account.demand
            self.demand = say(NUM_REPLICAS)
            self.account.waiting = 0

    def reach(self, book: LeaseBook) -> None:
        if self.demand is not None and self.reply is None:
            self.reply = book.exchange(self.name, [self.demand])

    def hear(self, now: float) -> None:
        if self.demand is not None and self.reply is not None:
            self.account.apply(self.reply.grants[0], self.demand, now)
            self.lose()

    def lose(self) -> None:
        """The reply, or the demand itself, never arrives."""
        self.demand = self.reply = None


@dataclass
class World:
    """Replicas that do as the steps say."""

    limits: KeyLimits
    clock: Clock = field(default_factory=Clock)
    admitted_at: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = LeaseBook(self.clock)
        self.replicas = [Replica(str(number)) for number in range(NUM_REPLICAS)]
        for replica in self.replicas:
            replica.account.adopt(self.limits, self.clock())
            self.book.exchange(replica.name, [])

    def request(self, replica: Replica) -> bool:
        if replica.account.admit(self.clock()) is not None:
            return False
        self.admitted_at.append(self.clock())
        return True

    def exchange(self, replica: Replica) -> None:
        replica.begin(settle=False)
        replica.reach(self.book)
        replica.hear(self.clock())

    def do(self, step: str, what: float) -> None:
        if step == "wait":
            for _ in range(8):
                self.clock.now += what / 8
                for replica in self.replicas:
                    self.book.exchange(replica.name, [])  # the sign of life
            return
        replica = self.replicas[int(what)]
        if step == "request":
            self.request(replica)
        elif step == "exchange":
            self.exchange(replica)
        elif step == "drain":
            while self.request(replica) or self.exchange(replica) or self.request(replica):
                pass
        elif step == "end":
            if replica.account.active:
                replica.account.release()
        elif step == "reach":
            replica.reach(self.book)
        elif step == "hear":
            replica.hear(self.clock())
        elif step == "lose":
            replica.lose()
        else:
            replica.begin(settle=step == "settle")


@settings(deadline=None, max_examples=300)
@given(limit=st.integers(1, 120), steps=STEPS)
def test_no_window_admits_more_than_one_bucket_would(
    limit: int, steps: list[tuple[str, float]]
) -> None:
    world = World(KeyLimits(requests_per_minute=limit))
    for step in steps:
        world.do(*step)
    counts = sorted(Counter(world.admitted_at).items())
    for first, (begin, _) in enumerate(counts):
        total = 0
        for end, num in counts[first:]:
            total += num
            assert total <= limit + limit / 60 * (end - begin) + 1e-6


@settings(deadline=None, max_examples=300)
@given(limit=st.integers(1, 12), steps=STEPS)
def test_never_more_run_at_the_same_time_than_allowed(
    limit: int, steps: list[tuple[str, float]]
) -> None:
    world = World(KeyLimits(concurrent_requests=limit))
    for step in steps:
        world.do(*step)
        active = [replica.account.active for replica in world.replicas]
        assert min(active) >= 0
        assert sum(active) <= limit


def test_the_laws_are_reached_not_only_kept() -> None:
    world = World(KeyLimits(requests_per_minute=48, concurrent_requests=48))
    for _ in range(200):
        for number in range(NUM_REPLICAS):
            for step in ("begin", "reach", "hear", "request"):
                world.do(step, number)
    assert len(world.admitted_at) == 48


def exchange(book: LeaseBook, replica: str, **said: float) -> tuple[int, int, float]:
    """Requests and slots granted, and the balance of tokens."""
    limits = KeyLimits(requests_per_minute=64, concurrent_requests=4, tokens_per_minute=600)
    demand = Demand("web", limits, **said)  # type: ignore[arg-type]
    (grant,) = book.exchange(replica, [demand]).grants
    return grant.requests, grant.slots, grant.tokens


def test_a_grant_leaves_most_to_the_others() -> None:
    book = LeaseBook(Clock())
    assert exchange(book, "a", wanted=64)[0] == 16
    assert exchange(book, "b", wanted=64)[0] == 6
    assert exchange(book, "b", held=6, wanted=2)[0] == 2


def test_what_is_given_back_is_there_for_others() -> None:
    clock = Clock()
    book = LeaseBook(clock)
    assert exchange(book, "a", slots_wanted=4)[1] == 4
    assert exchange(book, "b", slots_wanted=1)[1] == 0
    exchange(book, "a", slots=3)
    assert exchange(book, "b", slots_wanted=2)[1] == 1
    granted = exchange(book, "a", slots=3, wanted=64)[0]
    exchange(book, "a", slots=3, returned=granted)
    reply = book.exchange("b", [Demand("web", KeyLimits(requests_per_minute=64), slots=1)])
    assert reply.grants[0].remaining == 64


def test_a_replica_that_is_silent_holds_nothing_any_more() -> None:
    clock = Clock()
    book = LeaseBook(clock)
    exchange(book, "a", slots_wanted=4, wanted=64)
    for _ in range(3):
        clock.now += 5
        assert book.exchange("b", []).num_replicas == (2 if clock.now < 1011 else 1)
    assert exchange(book, "b", slots_wanted=4)[1] == 4
    assert book.exchange("a", []).is_new
    assert not book.exchange("a", []).is_new


def test_tokens_are_one_balance_that_may_be_overdrawn() -> None:
    clock = Clock()
    book = LeaseBook(clock)
    assert exchange(book, "a", spent_tokens=400)[2] == 200
    assert exchange(book, "b", spent_tokens=300)[2] == -100
    clock.now += 10
    assert exchange(book, "a")[2] == 0


def test_limits_that_change_hold_from_the_next_exchange_on() -> None:
    book = LeaseBook(Clock())
    exchange(book, "a", wanted=64)
    lower = Demand("web", KeyLimits(requests_per_minute=10), held=0, wanted=64)
    replies = [book.exchange("a", [lower]).grants[0].requests for _ in range(20)]
    assert sum(replies) <= 10
