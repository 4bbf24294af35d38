"""The place in a listing of items where its next page begins, as a text for the client."""

import base64
import json

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(time_ms: int, item: str) -> str:
    """Behind the item ``item`` of that time."""
    return base64.urlsafe_b64encode(json.dumps([time_ms, item]).encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Time and id of the item behind which to go on.

    Raises:
        ValueError: no cursor of ours.
    """
    tree = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    match tree:
        case [int(time_ms), str(item)] if 0 <= time_ms < 1 << 62 and "\x00" not in item:
            item.encode()  # raises for half a character
            return time_ms, item
    raise ValueError("no cursor of this service")
