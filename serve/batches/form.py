"""What a form says of the file in it, and whether that can be."""

from dataclasses import dataclass, field

from serve.batches.ids import new_file_id
from serve.batches.schema import FileObject
from serve.errors import ApiError

__all__ = ["Form", "uploaded_file"]

_SHORTEST_KEEP_S = 3600
_FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})


@dataclass(slots=True)
class Form:
    """What was sent beside the content of the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    num_bytes: int = -1
    """Of the file; negative: there was none."""


def uploaded_file(form: Form, *, now: int, keep_s: int) -> FileObject:
    """The new file of a form that was read; ``keep_s`` is the longest that it is kept.

    Raises:
        ApiError: 400, the form says what cannot be.
    """
    for name in form.fields:
        if name not in _FIELDS:
            message = f"'{name[:80]}' is not supported by this service. Leave it out."
            raise ApiError(400, message, code="unsupported_parameter", param=name[:80])
    if form.num_bytes < 0:
        raise ApiError(400, "file is missing.", code="missing_file", param="file")
    if form.num_bytes == 0:
        raise ApiError(400, "the file is empty.", code="empty_file", param="file")
    if (purpose := form.fields.get("purpose")) != "batch":
        message = f"purpose must be batch, the only one of this service (got {purpose!r})."
        raise ApiError(400, message, code="invalid_value", param="purpose")
    return FileObject(
        id=new_file_id(),
        bytes=form.num_bytes,
        created_at=now,
        expires_at=now + _keep_s(form.fields, keep_s),
        filename=form.filename,
        purpose="batch",
    )


def _keep_s(fields: dict[str, str], most_s: int) -> int:
    """How long an uploaded file is kept; a client may wish for less than the service's days."""
    anchor = fields.get("expires_after[anchor]")
    seconds = fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return most_s
    if anchor != "created_at" or seconds is None or not _is_number(seconds):
        raise ApiError(
            400,
            "expires_after has the anchor created_at and a number of seconds.",
            code="invalid_value",
            param="expires_after",
        )
    if not _SHORTEST_KEEP_S <= int(seconds) <= most_s:
        raise ApiError(
            400,
            f"expires_after.seconds is {_SHORTEST_KEEP_S} to {most_s} here (got {seconds}).",
            code="invalid_value",
            param="expires_after.seconds",
        )
    return int(seconds)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
