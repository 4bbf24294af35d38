"""The one kind of error that a call raises, and what of it may pass by itself."""

import httpx

from apps.replies.operation import Problem

__all__ = ["ServiceError", "explain_failure", "late", "refused"]

_UNREACHABLE, _BROKEN_OFF = "unreachable", "broken_off"
_PASSING_STATUSES = frozenset({429, 502, 503, 504})
_PASSING_CODES = frozenset({_UNREACHABLE, _BROKEN_OFF})


class ServiceError(Exception):
    """The service is away or refuses; the message is meant for the person who asked."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """``status`` is the HTTP status, None where there was no whole reply at all.

        ``code`` names the kind of failure for programs, ``request_id`` the request in the
        service's log.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        # shown by tracebacks, while str() stays what a person is told
        self.add_note(f"status {status}, code {code}, request {request_id}")

    @property
    def is_away(self) -> bool:
        """Whether nothing answered at the URL."""
        return self.status is None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed in a moment."""
        if self.status is None:
            return self.code in _PASSING_CODES
        return self.status in _PASSING_STATUSES or self._is_of_a_proxy

    @property
    def reached_nobody(self) -> bool:
        """Whether no connection came about, so that nothing of the request was sent."""
        return self.code == _UNREACHABLE

    @property
    def _is_of_a_proxy(self) -> bool:
        """Ray's proxy makes 500 of every 502, 503 and 504 of its own; the service names a code."""
        return self.status == 500 and self.code is None


def refused(
    problem: Problem,
    *,
    status: int,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> ServiceError:
    """What the service says itself."""
    return ServiceError(
        problem.message,
        status=status,
        code=problem.code,
        request_id=request_id,
        retry_after_s=retry_after_s,
    )


def late(url: str, *, request_id: str) -> ServiceError:
    """The deadline of the call has passed."""
    return ServiceError(
        f"The service at {url} does not answer in time.", code="timeout", request_id=request_id
    )


def explain_failure(error: httpx.TransportError, url: str, *, request_id: str) -> ServiceError:
    """A failure of the transport in words, with whether it may pass."""
    if isinstance(error, httpx.PoolTimeout):
        return ServiceError(
            "Every connection of this client was in use for too long. Open it with a larger "
            "max_connections, or ask less at a time.",
            code="no_free_connection",
            request_id=request_id,
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ServiceError(
            f"The service at {url} cannot be reached. Start it, or check the URL.",
            code=_UNREACHABLE,
            request_id=request_id,
        )
    if isinstance(error, httpx.TimeoutException):
        return late(url, request_id=request_id)
    return ServiceError(
        f"The service at {url} broke off its reply. Ask again.",
        code=_BROKEN_OFF,
        request_id=request_id,
    )
