"""API keys: kept as SHA-256 of random tokens, compared in constant time, always required.

A token is 32 random bytes, so a plain hash cannot be searched and a slow one would only slow
down every request. Keys from the environment (RAY_SFT_API_KEYS, separated by commas) are hashed
at start like those of the file.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from ray_sft.core import Config, ServeError

__all__ = ["ENVIRONMENT_VARIABLE", "ApiKey", "KeyRing", "add_key", "load_keys"]

ENVIRONMENT_VARIABLE = "RAY_SFT_API_KEYS"

_PREFIX = "rsft-"
_SHORTEST = 16


class ApiKey(Config):
    """One key, of which only the hash is known."""

    name: str = Field(min_length=1)
    """Who uses it; appears in logs."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hexadecimal digest of the token."""
    created: str = ""
    """UTC time in ISO 8601."""


class _KeyFile(Config):
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open a service."""

    keys: tuple[ApiKey, ...]

    def match(self, token: str) -> str | None:
        """The name of the key that ``token`` is, or None; every key is compared."""
        digest = _digest(token)
        found = None
        for key in self.keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key.name
        return found


def load_keys(path: Path, environment: Mapping[str, str]) -> KeyRing:
    """The keys of the file, where it exists, and of the environment.

    Raises:
        ServeError: the file is damaged, or a key of the environment is too short to be safe.
    """
    return KeyRing((*_read(path), *_from_environment(environment)))


def add_key(path: Path, *, name: str) -> str:
    """A new token under ``name``, whose hash is added to the file (readable by its owner only).

    Raises:
        ServeError: the file is damaged or cannot be written, or the name is taken.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    keys = _read(path)
    if any(key.name == name for key in keys):
        raise ServeError(f"key file '{path}' has a key '{name}' already. Choose another name.")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    _write(path, [*keys, ApiKey(name=name, sha256=_digest(token), created=created)])
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return _KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ServeError(f"key file '{path}' cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ServeError(
            f"key file '{path}' is damaged: {reason}. Repair it, or move it away to get a new key."
        ) from None


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    text = json.dumps({"keys": [key.model_dump() for key in keys]}, indent=2) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise ServeError(
            f"key file '{path}' cannot be written: {error.strerror}. Choose another with "
            f"--keys-file, or set {ENVIRONMENT_VARIABLE}."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _from_environment(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    tokens = [token.strip() for token in environment.get(ENVIRONMENT_VARIABLE, "").split(",")]
    for token in filter(None, tokens):
        if len(token) < _SHORTEST:
            raise ServeError(
                f"{ENVIRONMENT_VARIABLE} holds a key of {len(token)} characters; the shortest "
                f"allowed has {_SHORTEST}. Use a random one."
            )
    return tuple(
        ApiKey(name=f"environment-{position}", sha256=_digest(token))
        for position, token in enumerate(filter(None, tokens), start=1)
    )
