"""Adding, rotating and revoking keys in a key file.

A service that runs with the file takes a change up within a few seconds, see `serve.keys.watch`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ray_sft.core import ServeError
from serve.keys.api_key import ApiKey, KeyLimits, RetiringToken, digest_of, new_token
from serve.keys.file import KeyFile, change_key_file, existing_key_file
from serve.keys.ring import ENVIRONMENT_NAME
from serve.keys.scopes import ScopeName

__all__ = ["add_key", "revoke_key", "rotate_key"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def add_key(
    path: Path,
    *,
    name: str,
    scopes: Sequence[ScopeName] = ("admin",),
    models: Sequence[str] = (),
    lifetime: timedelta | None = None,
    limits: KeyLimits = KeyLimits(),  # noqa: B008 # frozen
) -> str:
    """A new token under ``name``, whose hash is added to the file (readable by its owner only).

    Raises:
        ServeError: the file is damaged or cannot be written, or the name cannot be used.
    """
    if not _NAME.fullmatch(name) or name.startswith(ENVIRONMENT_NAME):
        raise ServeError(
            f"'{name}' cannot name a key: up to 64 letters, digits, '.', '_', '@' and '-', and "
            f"not beginning with '{ENVIRONMENT_NAME}', which names keys of the environment."
        )
    token, now = new_token(), _now()
    key = ApiKey(
        name=name,
        sha256=digest_of(token),
        created=now.isoformat(),
        scopes=tuple(scopes),
        models=tuple(models),
        expires=None if lifetime is None else now + lifetime,
        limits=limits,
    )

    def add(content: KeyFile) -> KeyFile:
        if any(other.name == name for other in content.keys):
            raise ServeError(
                f"key file '{path}' has a key '{name}' already. Choose another name, or give it a "
                f"new token: ray-sft keys rotate {name}."
            )
        return content.model_copy(update={"keys": (*content.keys, key)})

    change_key_file(path, add)
    return token


def rotate_key(path: Path, *, name: str, grace: timedelta) -> str:
    """A new token under ``name``; the present one works on until ``grace`` has passed.

    Raises:
        ServeError: there is no such key or it is revoked, or the file cannot be written.
    """
    token, now = new_token(), _now()

    def rotate(key: ApiKey) -> ApiKey:
        if key.revoked is not None:
            raise ServeError(f"key '{name}' is revoked. Add one under another name.")
        old = RetiringToken(sha256=key.sha256, expires=now + grace)
        retiring = [one for one in (*key.retiring, old) if one.expires > now]
        return key.model_copy(update={"sha256": digest_of(token), "retiring": tuple(retiring)})

    _change_key(path, name, rotate)
    return token


def revoke_key(path: Path, *, name: str) -> None:
    """Ends every token under ``name``; the key stays listed.

    Raises:
        ServeError: there is no such key, or the file cannot be written.
    """

    def revoke(key: ApiKey) -> ApiKey:
        return key.model_copy(update={"revoked": key.revoked or _now(), "retiring": ()})

    _change_key(path, name, revoke)


def _change_key(path: Path, name: str, change: Callable[[ApiKey], ApiKey]) -> None:
    def changed(content: KeyFile) -> KeyFile:
        if all(key.name != name for key in content.keys):
            known = ", ".join(key.name for key in content.keys) or "none"
            raise ServeError(f"key file '{path}' has no key '{name}'. It has: {known}.")
        keys = tuple(change(key) if key.name == name else key for key in content.keys)
        return content.model_copy(update={"keys": keys})

    existing_key_file(path)
    change_key_file(path, changed)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
