"""Forms that arrive in pieces, go to the disk, and are refused where they are none."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from serve.batches.form import Form
from serve.batches.upload import read_form
from serve.errors import ApiError

pytestmark = pytest.mark.asyncio

TYPE = "multipart/form-data; boundary=edge"
CONTENT = b'{"a": "--edge"}\r\n--edg\r\n--\r\n\r\n{"b": 1}\n'


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"'
    head += "" if filename is None else f'; filename="{filename}"'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--edge--\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(
    body: bytes, draft: Path, *, size: int = 7, kind: str = TYPE, most: int = 1000
) -> Form:
    return await read_form(kind, pieces(body, size), draft, max_file_bytes=most)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return tmp_path / "draft"


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
@pytest.mark.parametrize("file_first", [True, False])
async def test_a_file_arrives_as_it_was_sent(draft: Path, size: int, file_first: bool) -> None:
    parts = [part("purpose", b"batch"), part("file", CONTENT, "a/../é.jsonl")]
    body = b"".join(reversed(parts) if file_first else parts) + END
    form = await read(body, draft, size=size)
    assert draft.read_bytes() == CONTENT
    assert form == Form({"purpose": "batch"}, "a/../é.jsonl", len(CONTENT))


async def test_a_long_file_is_on_disk_before_it_has_arrived(draft: Path) -> None:
    piece = b"x" * 65_536
    sizes = []

    async def body() -> AsyncIterator[bytes]:
        yield part("file", b"", "a").removesuffix(b"\r\n")
        for _ in range(64):
            yield piece
            sizes.append(draft.stat().st_size)
        yield b"\r\n" + END

    form = await read_form(TYPE, body(), draft, max_file_bytes=1 << 30)
    assert form.num_bytes == 64 * 65_536 == draft.stat().st_size
    assert all(later > sooner for sooner, later in pairwise(sizes))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_form"),
        (b"no form", "invalid_form"),
        (part("file", b"x", "a"), "invalid_form"),
        (b"--edge\r\n" + END, "invalid_form"),
        (part("file", b"x", "a") + part("file", b"y", "b") + END, "invalid_form"),
        (part("purpose", b"x") + part("purpose", b"y") + END, "invalid_form"),
        (part("purpose", b"x" * 2000) + END, "invalid_form"),
        (part("file", b"x" * 1001, "a") + END, "file_too_large"),
    ],
)
async def test_what_is_no_form_is_refused(draft: Path, body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        await read(body, draft)
    assert caught.value.code == code
    assert caught.value.status == (413 if code == "file_too_large" else 400)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=edge",
        "multipart/form-data; boundary=" + "x" * 5000,
    ],
)
async def test_another_type_is_refused(draft: Path, kind: str) -> None:
    with pytest.raises(ApiError) as caught:
        await read(part("file", b"x", "a") + END, draft, kind=kind)
    assert caught.value.status == 400


async def test_a_name_is_kept_without_control_characters(draft: Path) -> None:
    form = await read(part("file", b"x", "a\x00b\x1bc" + "d" * 300) + END, draft)
    assert form.filename.startswith("abcd")
    assert len(form.filename) == 255
