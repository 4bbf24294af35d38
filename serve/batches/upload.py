"""Reading an uploaded file out of a multipart form, straight onto the disk.

The framework's own form would go to a temporary folder first, which may be memory. Nothing that
the client says becomes a path: the name of its file is only kept to be shown.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serve.batches.form import Form
from serve.errors import ApiError

__all__ = ["FORM_BYTES", "read_form"]

FORM_BYTES = 16 * 1024
"""What a form may hold beside the file: its other fields, and what stands between them."""

_LONGEST_FIELD = 1024
_LONGEST_NAME = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def read_form(
    content_type: str, body: AsyncIterator[bytes], draft: Path, *, max_file_bytes: int
) -> Form:
    """Writes the form's ``file`` to ``draft``.

    Raises:
        ApiError: 400 for what is no form, 413 for a file that is too long.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(
            400,
            "a file is sent as multipart/form-data, with the fields purpose and file.",
            code="invalid_content_type",
        )
    try:
        with draft.open("wb") as out:
            return await _Reader(boundary, out, max_file_bytes).read(body)
    except FormParserError as error:
        raise _malformed(str(error)) from None


class _Reader:
    """Takes a form apart as it arrives."""

    def __init__(self, boundary: bytes, out: BinaryIO, max_file_bytes: int) -> None:
        self.form = Form()
        self._out = out
        self._max_file_bytes = max_file_bytes
        self._is_whole = False
        self._header: dict[str, bytearray] = {}
        self._disposition = b""
        self._name = ""
        self._value = bytearray()
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_begin": self._begin_header,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    async def read(self, body: AsyncIterator[bytes]) -> Form:
        async for chunk in body:
            self._parser.write(chunk)
            if self._pieces:
                content = b"".join(self._pieces)
                self._pieces.clear()
                await asyncio.to_thread(self._out.write, content)
        self._parser.finalize()
        if not self._is_whole:
            raise _malformed("its last boundary is missing")
        return self.form

    def _begin_part(self) -> None:
        self._disposition, self._name = b"", ""
        self._value.clear()

    def _begin_header(self) -> None:
        self._header = {"name": bytearray(), "value": bytearray()}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header["name"] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header["value"] += data[start:end]

    def _end_header(self) -> None:
        if self._header["name"].lower() == b"content-disposition":
            self._disposition = bytes(self._header["value"])

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name in self.form.fields or (self._is_file and self.form.num_bytes >= 0):
            raise _malformed(f"'{self._name[:80]}' stands in it twice")
        if self._is_file:
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.form.filename = _CONTROL.sub("", name)[:_LONGEST_NAME] or "file.jsonl"
            self.form.num_bytes = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            self.form.num_bytes += end - start
            if self.form.num_bytes > self._max_file_bytes:
                raise _too_long(self._max_file_bytes)
        else:
            self._value += data[start:end]
            if len(self._value) > _LONGEST_FIELD:
                raise _malformed(f"'{self._name[:80]}' is longer than {_LONGEST_FIELD} bytes")

    def _end_part(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_whole = True

    @property
    def _is_file(self) -> bool:
        return self._name == "file"


def _malformed(why: str) -> ApiError:
    return ApiError(400, f"the form cannot be read: {why}.", code="invalid_form")


def _too_long(max_file_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"the file is longer than {max_file_bytes} bytes, the most that this service takes. Split "
        "it, and make several batches.",
        code="file_too_large",
        param="file",
        headers={"connection": "close"},
    )
