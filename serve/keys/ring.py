"""The keys that open a service, found by the hash of their token.

A token is 32 random bytes, so a plain hash cannot be searched and a slow one would only slow
down every request. What the time of a look-up tells of a hash helps nobody to find a token with
it. Keys from the environment (RAY_SFT_API_KEYS, separated by commas) are hashed at start like
those of the file; they open everything and never expire.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from ray_sft.core import ServeError
from serve.errors import ApiError
from serve.keys.api_key import ApiKey, digest_of
from serve.keys.file import KeyFile, read_key_file

__all__ = ["ENVIRONMENT_NAME", "ENVIRONMENT_VARIABLE", "KeyRing", "load_keys"]

ENVIRONMENT_VARIABLE = "RAY_SFT_API_KEYS"
ENVIRONMENT_NAME = "environment-"
"""How the names of its keys begin; a number follows."""

_SHORTEST = 16
_LONGEST = 512
"""Characters of a token; longer ones are wrong without being hashed."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open a service."""

    keys: tuple[ApiKey, ...]
    """All of them."""
    environment: tuple[ApiKey, ...] = ()
    """Those of ``keys`` that the environment gave, which no file changes."""
    file_id: str | None = None
    """Of the file that the others come from; None: there was none."""
    _by_digest: dict[str, tuple[ApiKey, float | None]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        by_digest: dict[str, tuple[ApiKey, float | None]] = {}
        for key in self.keys:
            for token in key.retiring:
                ends_at = min(token.expires, key.expires or token.expires)
                by_digest[token.sha256] = (key, ends_at.timestamp())
            by_digest[key.sha256] = (key, key.expires.timestamp() if key.expires else None)
        object.__setattr__(self, "_by_digest", by_digest)

    def find(self, token: str) -> ApiKey:
        """The key that ``token`` is.

        Raises:
            ApiError: 401, there is none, or it has expired or is revoked.
        """
        if not token or len(token) > _LONGEST:
            raise _refused("is wrong", "invalid_api_key")
        key, ends_at = self._by_digest.get(digest_of(token), (None, None))
        if key is None:
            raise _refused("is wrong", "invalid_api_key")
        if key.revoked is not None:
            raise _refused(f"'{key.name}' was revoked", "revoked_api_key")
        if ends_at is not None and ends_at <= time():
            raise _refused(f"'{key.name}' has expired", "expired_api_key")
        return key

    def with_file(self, content: KeyFile) -> "KeyRing":
        """The same keys of the environment and those of a newer version of the file."""
        return KeyRing((*content.keys, *self.environment), self.environment, content.id)


def load_keys(path: Path, environment: Mapping[str, str]) -> KeyRing:
    """The keys of the file, where it exists, and of the environment.

    Raises:
        ServeError: the file is damaged, or a key of the environment is too short to be safe.
    """
    given = _from_environment(environment)
    content = read_key_file(path)
    ring = KeyRing(given, given)
    return ring if content is None else ring.with_file(content)


def _refused(what: str, code: str) -> ApiError:
    return ApiError(
        401,
        f"the API key {what}. Send the header 'Authorization: Bearer <key>'.",
        code=code,
        headers={"www-authenticate": "Bearer"},
    )


def _from_environment(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    tokens = [token.strip() for token in environment.get(ENVIRONMENT_VARIABLE, "").split(",")]
    for token in filter(None, tokens):
        if not _SHORTEST <= len(token) <= _LONGEST:
            raise ServeError(
                f"{ENVIRONMENT_VARIABLE} holds a key of {len(token)} characters; the shortest "
                f"allowed has {_SHORTEST}, the longest {_LONGEST}. Use a random one."
            )
    return tuple(
        ApiKey(name=f"{ENVIRONMENT_NAME}{position}", sha256=digest_of(token))
        for position, token in enumerate(filter(None, tokens), start=1)
    )
