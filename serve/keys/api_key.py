"""One API key: whose it is, what it opens, until when and how often. The token is never kept."""

import hashlib
import secrets
from datetime import datetime

from pydantic import AwareDatetime, Field

from ray_sft.core import Config
from serve.keys.scopes import ScopeName

__all__ = ["ApiKey", "KeyLimits", "RetiringToken", "digest_of", "new_token"]

_PREFIX = "rsft-"
_DIGEST = "^[0-9a-f]{64}$"


class KeyLimits(Config):
    """How much a key may ask; left out: as the service's default says, 0: no limit."""

    requests_per_minute: int | None = Field(default=None, ge=0)
    """Requests; a minute's worth may come at once, and is then refilled evenly."""
    tokens_per_minute: int | None = Field(default=None, ge=0)
    """Tokens read and written by models, counted when a request has been answered."""
    concurrent_requests: int | None = Field(default=None, ge=0)
    """Requests at the same time; a stream counts until it ends or its client leaves."""

    def over(self, defaults: "KeyLimits") -> "KeyLimits":
        """These limits, with ``defaults`` where none is set."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))

    def divided(self, num: int) -> "KeyLimits":
        """An equal part for each of ``num``, rounded up."""
        parts = {name: -(-limit // num) for name, limit in self.model_dump().items() if limit}
        return self.model_copy(update=parts)


class RetiringToken(Config):
    """A token that a rotation has replaced and that works a little longer."""

    sha256: str = Field(pattern=_DIGEST)
    """Hexadecimal digest of the token."""
    expires: AwareDatetime
    """When it stops to work."""


class ApiKey(Config):
    """One key, of which only the hash is known."""

    name: str = Field(min_length=1)
    """Who uses it; appears in logs, metrics and errors."""
    sha256: str = Field(pattern=_DIGEST)
    """Hexadecimal digest of the token."""
    created: str = ""
    """UTC time in ISO 8601."""
    scopes: tuple[ScopeName, ...] = Field(default=("admin",), min_length=1)
    """What it opens, see `serve.keys.scopes`."""
    models: tuple[str, ...] = ()
    """Models that it may ask on model routes; empty: all. A name stands for its heads too."""
    expires: AwareDatetime | None = None
    """When it stops to work; left out: never."""
    revoked: AwareDatetime | None = None
    """When it was revoked; left out: it was not."""
    retiring: tuple[RetiringToken, ...] = ()
    """Earlier tokens within their grace."""
    limits: KeyLimits = KeyLimits()
    """How much it may ask."""

    def may_ask(self, model: str) -> bool:
        """Whether the key may use a model."""
        return not self.models or model in self.models or model.partition("/")[0] in self.models

    def state(self, now: datetime) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"


def new_token() -> str:
    """32 random bytes: nothing searches them, so a plain hash of them is safe to keep."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
