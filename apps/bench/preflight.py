"""Whether a load makes sense at all: the service is there, takes the key, and answers one request.

A refusal is told in the service's own words before thousands of them are counted.
"""

from time import perf_counter

from apps.bench.connection import Connection
from apps.bench.plan import Plan
from apps.bench.wire import address_of
from apps.client import Client, RetryPolicy, ServiceError

__all__ = ["check_service", "try_request"]

_TIMEOUT_S = 10.0
_ONCE = RetryPolicy(max_attempts=1)


def check_service(plan: Plan, *, key: str) -> None:
    """Returns where the service lists its models.

    Raises:
        ServiceError: it is away or refuses.
        ValueError: the URL or the key is none.
    """
    with Client(plan.url, api_key=key, timeout_s=_TIMEOUT_S, retry=_ONCE) as client:
        client.models()


async def try_request(plan: Plan, request: bytes) -> None:
    """Returns where the service answers a request of the load.

    Raises:
        ServiceError: it does not.
    """
    connection = Connection(address_of(plan.url), timeout_s=plan.timeout_s)
    reader = await connection.ask(request, start=perf_counter())
    connection.close()
    outcome = reader.outcome
    if outcome.code is not None:
        raise ServiceError(
            f"the service does not answer a request of this load ({outcome.code}): "
            f"{reader.message or 'it says no more'}",
            status=outcome.status,
            code=outcome.code,
        )
