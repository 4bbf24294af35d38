"""Who has sent the request that is being answered, for what only a route can know.

The border sets it; a route says which model is asked and how many tokens it took. Outside a
request with a key - tests, an application's own work - everything is permitted and free.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from serve.errors import ApiError
from serve.keys.api_key import ApiKey
from serve.quotas.account import Ticket
from serve.tracing import describe_span

__all__ = ["CALLER", "Caller", "caller_name", "charge_tokens", "permit_model"]


@dataclass(slots=True)
class Caller:
    """The key of a request and, where the key has limits, its ticket."""

    key: ApiKey
    ticket: Ticket | None
    model: str = ""
    """The model that was asked, once it is known."""


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def caller_name() -> str:
    """The name of the request's key; nothing without one."""
    caller = CALLER.get()
    return "" if caller is None else caller.key.name


def permit_model(name: str) -> None:
    """Notes which model a request asks; raises ApiError 403 where its key may not."""
    caller = CALLER.get()
    if caller is None:
        return
    caller.model = name
    describe_span({"model": name})
    if not caller.key.may_ask(name):
        raise ApiError(
            403,
            f"key '{caller.key.name}' may not use model '{name}'; it may use: "
            f"{', '.join(caller.key.models)}.",
            code="model_not_permitted",
            param="model",
        )


def charge_tokens(num_tokens: int) -> None:
    """Counts what models have read and written for this request to its key."""
    caller = CALLER.get()
    if caller is not None and caller.ticket is not None:
        caller.ticket.charge(num_tokens)
