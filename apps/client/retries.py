"""Whether and when a failed call is tried again: a policy without I/O, clock or randomness.

Neither tenacity nor httpx-retries is used: the first knows no budget over calls, and the second
works below httpx, where a reply that breaks off in its body, or a stream before its first event,
is already given away.

Two things keep many clients from multiplying an overload: waits that are drawn at random over
the whole of a growing span ("full jitter", Brooker 2015, "Exponential Backoff And Jitter"), and a
budget of tokens of which a call brings a tenth and a retry takes a whole one, as in gRPC's retry
throttling (gRFC A6) and Finagle's RetryBudget. There is no refill by time: whatever happens, a
client sends at most `RetryPolicy.burst` requests plus a tenth more than it was asked to.
"""

import threading
from dataclasses import dataclass

from apps.client.errors import ServiceError

__all__ = ["RetryBudget", "RetryPolicy", "wait_before_retry", "wait_before_return"]

_LONGEST_RETURN_WAIT_S = 1.0
"""Between two attempts to connect; who comes back is found soon, and not by all at once."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is; ``max_attempts=1`` never tries again."""

    max_attempts: int = 4
    """Of one call, the first included."""
    first_wait_s: float = 0.1
    """Upper end of the wait before the second attempt; it doubles with each."""
    longest_wait_s: float = 30.0
    """A service that asks for a longer wait is not asked again; no other wait is longer either."""
    share: float = 0.1
    """Retries that each call adds to the budget."""
    burst: int = 100
    """Retries that the budget holds at most, and at the beginning: as many as a client has
    connections, all of which break off at once where a proxy or a replica dies."""
    reconnect_s: float = 20.0
    """How long a call waits for a service that has answered this client before and takes no
    connections now; a proxy that died is back within a second, or within ten where Ray replaces
    its actor too. 0: as for any other failure."""

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that are none of a policy."""
        if self.max_attempts < 1 or self.burst < 0:
            raise ValueError(
                "a RetryPolicy needs max_attempts of 1 or more, and burst of 0 or more."
            )
        if not (0 <= self.first_wait_s <= self.longest_wait_s and 0 <= self.share <= 1):
            raise ValueError(
                "a RetryPolicy needs 0 <= first_wait_s <= longest_wait_s and share from 0 to 1."
            )
        if not self.reconnect_s >= 0:
            raise ValueError("a RetryPolicy needs reconnect_s of 0 or more.")


class RetryBudget:
    """Retries that all calls of a client may still make; safe between threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        """Full at the beginning, so that a client's first calls may be tried again too."""
        self._share = policy.share
        self._burst = float(policy.burst)
        self._tokens = self._burst
        self._lock = threading.Lock()
        self.has_been_answered = False
        """Whether there has been a reply to any call."""

    def deposit(self) -> None:
        """A call begins."""
        with self._lock:
            self._tokens = min(self._burst, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Whether one more retry may be made, which is then counted."""
        with self._lock:
            # tenths do not add up to exactly one
            if self._tokens < 1.0 - 1e-9:
                return False
            self._tokens = max(0.0, self._tokens - 1.0)
            return True


def wait_before_retry(
    policy: RetryPolicy, attempt: int, error: ServiceError, *, left_s: float, draw: float
) -> float | None:
    """Seconds until the next attempt; None where there is to be none.

    Args:
        policy: the limits.
        attempt: the one that failed, from 1.
        error: how it failed.
        left_s: until the deadline of the call.
        draw: at random from 0 to 1.
    """
    asked_s = error.retry_after_s or 0.0
    is_over = attempt >= policy.max_attempts or asked_s > policy.longest_wait_s
    if is_over or not error.may_pass:
        return None
    span_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** (attempt - 1))
    # whom the service told the same time do not all come back at that very moment
    wait_s = asked_s + draw * span_s
    return wait_s if wait_s < left_s else None


def wait_before_return(
    policy: RetryPolicy, attempt: int, *, away_s: float, left_s: float, draw: float
) -> float | None:
    """Seconds until the next attempt to connect to a service that has answered before.

    Args:
        policy: the limits.
        attempt: the one that got no connection, from 1, counted since the call found it away.
        away_s: since then.
        left_s: until the deadline of the call.
        draw: at random from 0 to 1.

    Returns:
        None where it is waited for no longer.
    """
    if policy.max_attempts == 1:
        return None
    longest_s = min(_LONGEST_RETURN_WAIT_S, policy.longest_wait_s)
    # a service may be away for more attempts than a float can be doubled
    wait_s = draw * min(longest_s, policy.first_wait_s * 2.0 ** min(attempt - 1, 30))
    return wait_s if away_s + wait_s < policy.reconnect_s and wait_s < left_s else None
