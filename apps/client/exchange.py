"""One call under way: what every attempt sends, and what is made of how an attempt ends.

Both transports share it; what they add is who waits how.
"""

import logging
import random
import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from httpx_sse import SSEError
from pydantic import ValidationError

from apps.client.call import Call, Reply, StreamCall, failure_of, strange
from apps.client.errors import ServiceError, explain_failure, late, refused
from apps.client.options import Options
from apps.client.retries import RetryBudget, wait_before_retry, wait_before_return

__all__ = ["DONE", "KEEPALIVE_S", "Exchange", "authorities", "client_arguments"]

logger = logging.getLogger(__name__)

DONE = "[DONE]"
"""The data of the last event of a stream."""
KEEPALIVE_S = 4.0
"""Idle connections are given up before uvicorn closes them, after 5 s."""

T = TypeVar("T")


class Exchange:
    """Keeps its id and its deadline over all attempts."""

    def __init__(
        self, call: Call[Any] | StreamCall[Any], options: Options, budget: RetryBudget
    ) -> None:
        """The call begins now."""
        self.request_id = uuid.uuid4().hex
        self._call = call
        self._options = options
        self._budget = budget
        self._attempt = 1
        self._num_unconnected = 0
        """Attempts that got no connection, since the last one that did."""
        self._away_since = 0.0
        self._ends_at = time.monotonic() + options.timeout_s
        budget.deposit()

    @property
    def left_s(self) -> float:
        """Until the deadline, never below 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request of the next attempt."""
        left_s = max(self.left_s, 1e-3)
        timeout = httpx.Timeout(
            self._options.timeout_s,  # between two bytes; the transports know the deadline
            connect=min(left_s, self._options.connect_timeout_s),
            pool=0.9 * left_s,  # so that this is told and not that the service is late
        )
        headers = {"x-request-id": self.request_id}
        if isinstance(self._call, StreamCall):
            headers |= {"accept": "text/event-stream", "cache-control": "no-store"}
            return http.build_request(
                "POST", self._call.path, json=self._call.body, headers=headers, timeout=timeout
            )
        return http.build_request(
            self._call.method,
            self._call.path,
            params=self._call.params,
            json=self._call.body,
            headers=headers,
            timeout=timeout,
        )

    def reply(self, response: httpx.Response) -> Reply:
        """A response that was read to its end."""
        self._budget.has_been_answered = True
        return Reply(
            status=response.status_code,
            headers=response.headers,
            content=response.content,
            url=self._options.url,
            request_id=self.request_id,
        )

    def piece(self, call: StreamCall[T], data: str) -> T | None:
        """What an event of a stream adds.

        Raises:
            ServiceError: the event says that the service failed, or is none of this service.
        """
        self._budget.has_been_answered = True
        try:
            return call.read(data)
        except ValidationError:
            problem = failure_of(data)
            if problem is not None:
                raise refused(problem, status=200, request_id=self.request_id) from None
            raise self._strange("an event of its stream is not OpenAI's") from None

    def broken_off(self) -> ServiceError:
        """The error for a stream that ends without saying so."""
        return self._explained_error(httpx.RemoteProtocolError("no [DONE]"))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns every failure of the network into a ServiceError."""
        try:
            yield
        except TimeoutError:  # of asyncio; httpx has its own
            raise late(self._options.url, request_id=self.request_id) from None
        except SSEError:  # which is one of httpx's transport errors by its class
            raise self._strange("its reply is no stream of events") from None
        except httpx.TransportError as error:
            raise self._explained_error(error) from error
        except httpx.DecodingError:
            raise self._strange("its reply cannot be decoded") from None

    def wait_s(self, error: ServiceError) -> float:
        """Seconds until the next attempt.

        Raises:
            ServiceError: ``error`` itself, where there is to be none.
        """
        if isinstance(self._call, Call) and not self._call.is_retried:
            raise error
        if not error.reached_nobody:
            self._num_unconnected = 0
        is_known = self._budget.has_been_answered and self._options.retry.reconnect_s > 0
        is_back_soon = error.reached_nobody and is_known
        wait_s = self._until_return() if is_back_soon else self._until_retry(error)
        if wait_s is None:
            raise error
        logger.info(
            "%s failed (%s); attempt %d in %.2f s, request %s",
            self._call.path,
            error,
            self._attempt + self._num_unconnected,
            wait_s,
            self.request_id,
        )
        return wait_s

    def _until_return(self) -> float | None:
        """Seconds until a service that was there is looked for again."""
        now = time.monotonic()
        if self._num_unconnected == 0:
            self._away_since = now
        self._num_unconnected += 1
        return wait_before_return(
            self._options.retry,
            self._num_unconnected,
            away_s=now - self._away_since,
            left_s=self.left_s,
            draw=random.random(),
        )

    def _until_retry(self, error: ServiceError) -> float | None:
        """Seconds until the next attempt that counts."""
        wait_s = wait_before_retry(
            self._options.retry,
            self._attempt,
            error,
            left_s=self.left_s,
            draw=random.random(),
        )
        if wait_s is None or not self._budget.withdraw():
            return None
        self._attempt += 1
        return wait_s

    def _strange(self, why: str) -> ServiceError:
        return strange(why, self._options.url, status=200, request_id=self.request_id)

    def _explained_error(self, error: httpx.TransportError) -> ServiceError:
        return explain_failure(error, self._options.url, request_id=self.request_id)


def client_arguments(options: Options) -> dict[str, Any]:
    """What both of httpx's clients are opened with."""
    key = options.api_key
    return {
        "base_url": options.url,
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        # a proxy of the environment would be asked for loopback addresses too
        "trust_env": False,
    }


def authorities() -> ssl.SSLContext:
    """The system's, or those that SSL_CERT_FILE names, as a company's own may be."""
    return ssl.create_default_context()
