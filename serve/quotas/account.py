"""What one key has used of its limits, in one process.

A request is admitted or refused here in about a microsecond; where the allowances come from - a
bucket of this process or a share of one that several replicas use - is not this file's business.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from serve.errors import ApiError
from serve.keys.api_key import KeyLimits

__all__ = ["Account", "Limit", "Refusal", "RequestAllowance", "Ticket", "TokenAllowance"]


class Allowance(Protocol):
    """What is left of a limit; `serve.quotas.buckets.TokenBucket` is one."""

    capacity: float

    def level(self, now: float) -> float:
        """What is left."""

    def wait_s(self, now: float) -> float:
        """Seconds until one is left."""

    def reset_s(self, now: float) -> float:
        """Seconds until all is left."""


class RequestAllowance(Allowance, Protocol):
    """Taken before a request."""

    def take(self, now: float) -> bool:
        """Takes one where one is left."""


class TokenAllowance(Allowance, Protocol):
    """Charged after a request."""

    def charge(self, now: float, num: float) -> None:
        """Takes ``num``, also where less is left."""


class Limit(Enum):
    """What a request can be beyond."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not admitted, and in how many seconds one would be."""

    limit: Limit
    wait_s: float


class Account:
    """One key: its limits and what is left of them."""

    __slots__ = ("active", "limits", "name", "requests", "slots", "tokens")

    def __init__(self, name: str) -> None:
        """Without limits; None stands for one that is not there."""
        self.name = name
        self.limits = KeyLimits()
        self.requests: RequestAllowance | None = None
        self.tokens: TokenAllowance | None = None
        self.slots: int | None = None
        """How many requests may run at once."""
        self.active = 0
        """How many do."""

    @property
    def is_free(self) -> bool:
        """Whether nothing is limited."""
        return self.slots is None and self.requests is None and self.tokens is None

    def admit(self, now: float) -> Refusal | None:
        """Counts a request in, or says why not; then nothing has been taken."""
        if self.slots is not None and self.active >= self.slots:
            return Refusal(Limit.CONCURRENCY, 1.0)
        if self.tokens is not None and self.tokens.level(now) < 1:
            return Refusal(Limit.TOKENS, self.tokens.wait_s(now))
        if self.requests is not None and not self.requests.take(now):
            return Refusal(Limit.REQUESTS, self.requests.wait_s(now))
        self.active += 1
        return None

    def release(self) -> None:
        """Counts a request out."""
        self.active -= 1

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """OpenAI's ``x-ratelimit-`` headers."""
        found: list[tuple[bytes, bytes]] = []
        if self.requests is not None:
            found += _headers(b"requests", self.requests, now)
        if self.tokens is not None:
            found += _headers(b"tokens", self.tokens, now)
        return found

    def error(self, refusal: Refusal, now: float) -> ApiError:
        """The 429 that tells a client what it is beyond and when to come again."""
        if refusal.limit is Limit.CONCURRENCY:
            return ApiError(
                429,
                f"key '{self.name}' has {self.limits.concurrent_requests} requests under way, "
                "as many as it may. Wait for one to end.",
                code="too_many_concurrent_requests",
                headers={"retry-after": "1"},
            )
        seconds = max(1, math.ceil(refusal.wait_s - 1e-6))
        what, code = {
            Limit.REQUESTS: ("requests", "rate_limit_exceeded"),
            Limit.TOKENS: ("tokens", "token_limit_exceeded"),
        }[refusal.limit]
        limit = getattr(self.limits, f"{what}_per_minute")
        headers = {name.decode(): value.decode() for name, value in self.headers(now)}
        return ApiError(
            429,
            f"key '{self.name}' may use {limit} {what} a minute, and has. Try again in {seconds} "
            "s.",
            code=code,
            headers={"retry-after": str(seconds), **headers},
        )


class Ticket:
    """An admitted request; it counts as concurrent until it is released."""

    __slots__ = ("_account", "_clock", "_is_open", "headers")

    def __init__(self, account: Account, now: float, clock: Callable[[], float]) -> None:
        """For a request that ``account`` has admitted."""
        self._account = account
        self._clock = clock
        self._is_open = True
        self.headers = account.headers(now)
        """Of the reply."""

    def charge(self, num_tokens: int) -> None:
        """Tokens that models have read and written for the request."""
        if self._account.tokens is not None:
            self._account.tokens.charge(self._clock(), num_tokens)

    def release(self) -> None:
        """The request has ended; releasing again does nothing."""
        if self._is_open:
            self._is_open = False
            self._account.release()


def _headers(what: bytes, allowance: Allowance, now: float) -> list[tuple[bytes, bytes]]:
    left = max(0, int(allowance.level(now) + 1e-9))
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % allowance.capacity),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, _duration(allowance.reset_s(now))),
    ]


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: ``120ms``, ``7s``, ``6m0s``, ``1h0m0s``."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    whole = math.ceil(seconds)
    if whole < 60:
        return b"%ds" % whole
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return b"%dm%ds" % (minutes, rest)
    return b"%dh%dm%ds" % (*divmod(minutes, 60), rest)
