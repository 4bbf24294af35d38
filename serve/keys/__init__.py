"""API keys: what a key is, the file that holds them, and the ring that opens a service.

Example:
    >>> from serve.keys import KeyRing
    >>> KeyRing(()).keys
    ()
"""

from serve.keys.api_key import ApiKey, KeyLimits
from serve.keys.changes import add_key, revoke_key, rotate_key
from serve.keys.file import existing_key_file
from serve.keys.listing import key_table, parse_duration, parse_scopes
from serve.keys.ring import ENVIRONMENT_VARIABLE, KeyRing, load_keys
from serve.keys.watch import Keys, KeyWatch, follow_file

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "ApiKey",
    "KeyLimits",
    "KeyRing",
    "KeyWatch",
    "Keys",
    "add_key",
    "existing_key_file",
    "follow_file",
    "key_table",
    "load_keys",
    "parse_duration",
    "parse_scopes",
    "revoke_key",
    "rotate_key",
]
