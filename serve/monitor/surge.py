"""Finding surges of negative opinion: a pure fold over the counted buckets of one topic.

A bucket raises an alert where its negative items are improbable beside the share that earlier
buckets lead to expect (beta-binomial, so that few items prove little), and more than a little
above it. While an alert is up nothing is learned, so a long surge does not become its own excuse;
one that outlasts `AlertArgs.max_buckets` is the new level, from which learning starts afresh.

The newest bucket of the stream is still filling: it may raise or hold an alert, and is neither
learned from nor taken for quiet. Equal buckets give equal surges, whatever the order in which
their items came; buckets without items are passed over at once, however many they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from serve.monitor.args import AlertArgs
from serve.monitor.baseline import Baseline, Counts, Judgement, judge

__all__ = ["State", "Surge", "Verdict", "find_surges"]


@dataclass(frozen=True, slots=True)
class Surge:
    """One surge; its figures are those of its most unusual bucket."""

    start: int
    """Bucket that raised the alert."""
    last: int
    """Latest bucket that holds it."""
    peak: Counts
    expected_share: float
    score: float
    volume_score: float
    level: Baseline
    """Of the surge's own buckets."""
    has_ended: bool = False

    def hold(self, counts: Counts, judgement: Judgement) -> "Surge":
        """With one more bucket."""
        held = replace(self, last=counts.bucket)
        if judgement.score <= self.score:
            return held
        return replace(
            held, peak=counts, score=judgement.score, volume_score=judgement.volume_score
        )


@dataclass(frozen=True, slots=True)
class State:
    """What is carried from bucket to bucket."""

    first: int
    """Bucket of the topic's first item."""
    next: int
    """First bucket that was not folded in."""
    learned: int
    """First bucket that the baseline does not hold."""
    baseline: Baseline = field(default_factory=Baseline)
    waiting: tuple[Counts, ...] = ()
    """Buckets to be learned once they are old enough."""
    hits: tuple[int, ...] = ()
    """Recent buckets that qualified to raise an alert."""
    surge: Surge | None = None
    cool_until: int = 0
    """First bucket that may raise the next alert."""

    def learn(self, until: int, decay: float) -> "State":
        """With the buckets before ``until`` in the baseline."""
        baseline, learned = self.baseline, self.learned
        due = [counts for counts in self.waiting if counts.bucket < until]
        for counts in due:
            baseline = baseline.pass_empty(counts.bucket - learned, decay)
            baseline = baseline.learn(counts, decay)
            learned = counts.bucket + 1
        if learned < until:
            baseline = baseline.pass_empty(until - learned, decay)
            learned = until
        return replace(self, baseline=baseline, learned=learned, waiting=self.waiting[len(due) :])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a fold."""

    states: tuple[State, ...]
    """One after each bucket that is complete and has items; folding may resume from any."""
    surges: tuple[Surge, ...]
    """In order of time; the last one may be under way."""


def find_surges(
    windows: Sequence[Counts], args: AlertArgs, *, newest: int, state: State | None = None
) -> Verdict:
    """The surges of a topic whose buckets with items are ``windows``, in order of time.

    ``newest`` is the newest bucket of the whole stream; ``state`` the outcome of all buckets
    before ``windows``, None where there are none.
    """
    states: list[State] = []
    surges: list[Surge] = []
    open_window = None
    for window in windows:
        if window.bucket >= newest:
            open_window = window
            break
        state = _close(state or _beginning(window.bucket), window, args, surges)
        states.append(state)
    state = _pass_empty(state or _beginning(newest), newest, args, surges)
    if open_window is not None:
        state = _peek(state, open_window, args)
    if state.surge is not None:
        surges.append(state.surge)
    return Verdict(tuple(states), tuple(surges))


def _beginning(bucket: int) -> State:
    return State(first=bucket, next=bucket, learned=bucket)


def _close(state: State, counts: Counts, args: AlertArgs, ended: list[Surge]) -> State:
    """The state after a complete bucket; surges that ended before or with it are appended."""
    state = _pass_empty(state, counts.bucket, args, ended)
    after = replace(state, next=counts.bucket + 1)
    if state.surge is None:
        return _watch(after, counts, args)
    surge = replace(state.surge, level=state.surge.level.learn(counts, args.decay))
    judgement = judge(counts, state.baseline, args)
    if judgement.holds:
        surge = surge.hold(counts, judgement)
    elif counts.bucket - surge.last >= args.quiet_buckets:
        return _end(after, surge, args, ended)
    if counts.bucket + 1 - surge.start >= args.max_buckets:
        return _end(replace(after, baseline=surge.level), surge, args, ended)
    return replace(after, surge=surge)


def _watch(state: State, counts: Counts, args: AlertArgs) -> State:
    """The state after a bucket outside any surge, which may begin one."""
    state = state.learn(counts.bucket - args.guard_buckets, args.decay)
    judgement = judge(counts, state.baseline, args)
    if not judgement.raises or not _is_warm(state, counts, args):
        return replace(state, waiting=(*state.waiting, counts))
    earliest = counts.bucket - args.out_of
    hits = (*(hit for hit in state.hits if hit > earliest), counts.bucket)
    if len(hits) < args.num_hits or counts.bucket < state.cool_until:
        return replace(state, hits=hits)
    surge = Surge(
        start=counts.bucket,
        last=counts.bucket,
        peak=counts,
        expected_share=judgement.expected_share,
        score=judgement.score,
        volume_score=judgement.volume_score,
        level=Baseline().learn(counts, args.decay),
    )
    # what waits may be the surge's own slow beginning
    return replace(state, hits=(), waiting=(), surge=surge)


def _is_warm(state: State, counts: Counts, args: AlertArgs) -> bool:
    return (
        counts.bucket - state.first >= args.warmup_buckets
        and state.baseline.items >= args.warmup_items
    )


def _peek(state: State, counts: Counts, args: AlertArgs) -> State:
    """The state as the bucket that still fills makes it appear; not to be kept."""
    if state.surge is None:
        return _watch(state, counts, args)
    judgement = judge(counts, state.baseline, args)
    if not judgement.holds:
        return state
    return replace(state, surge=state.surge.hold(counts, judgement))


def _pass_empty(state: State, until: int, args: AlertArgs, ended: list[Surge]) -> State:
    """The state before bucket ``until``, where no bucket from ``state.next`` on has an item."""
    num_buckets = until - state.next
    if num_buckets <= 0:
        return state
    surge = state.surge
    if surge is None:
        return replace(state, next=until)  # the baseline learns of it in its time
    quiet_from = surge.last + args.quiet_buckets + 1
    if until < quiet_from:
        level = surge.level.pass_empty(num_buckets, args.decay)
        return replace(state, next=until, surge=replace(surge, level=level))
    over = _end(replace(state, next=quiet_from), surge, args, ended)
    return replace(over, next=until)


def _end(state: State, surge: Surge, args: AlertArgs, ended: list[Surge]) -> State:
    """Learning goes on after the surge as if it had not been."""
    ended.append(replace(surge, has_ended=True))
    return replace(
        state,
        surge=None,
        learned=state.next,
        cool_until=state.next + args.cooldown_buckets,
    )
