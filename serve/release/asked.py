"""The request that is being answered, as far as the choice between two bundles needs to know it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["ASKED", "Arm", "Asked"]

Arm: TypeAlias = Literal["current", "candidate"]


@dataclass(slots=True)
class Asked:
    """One request from outside."""

    key: str
    """What the choice depends on: the client's user, else the request's id."""
    arm: Arm | None = None
    """Which bundle answers, once a model with a candidate was asked."""


ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)
"""Set for a request from outside while some model has a candidate. What is done for no request,
such as a probe or an application's own work, is always the current bundle's."""
