"""Which of two bundles a request meets: a matter of its name, not of chance.

A client that asks again under the same name, after a failure or to go on with a conversation,
meets the same bundle. Another candidate meets other clients, since its fingerprint is hashed too.
"""

import hashlib

__all__ = ["is_chosen", "place"]

_PLACES = 2**64


def place(key: str, salt: str) -> float:
    """Where ``key`` lies between 0 and 100, evenly spread over keys; the same for ever."""
    digest = hashlib.blake2b(f"{salt}\n{key}".encode(), digest_size=8).digest()
    return 100.0 * int.from_bytes(digest, "big") / _PLACES


def is_chosen(key: str, salt: str, *, percent: float) -> bool:
    """Whether ``key`` is among ``percent`` of all keys."""
    return place(key, salt) < percent
