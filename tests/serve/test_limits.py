"""The limit on bodies, spoken to in bare ASGI so that pieces arrive as the test says."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve.errors import ApiError
from serve.limits import BodyLimit

pytestmark = pytest.mark.asyncio

LIMIT = 10


class Echo:
    """Remembers the body that it is given, and what it receives after it."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.after: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, send
        message = await receive()
        assert not message["more_body"]
        self.body = message["body"]
        self.after = (await receive())["type"]


async def send_pieces(
    pieces: Sequence[bytes], *, headers: Sequence[tuple[bytes, bytes]] = (), leaves: bool = False
) -> tuple[Echo, int]:
    """What the application saw, and how many pieces were taken."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": leaves or index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    messages.append({"type": "http.disconnect"})
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return messages[taken - 1]

    async def send(_: Message) -> None:
        raise AssertionError("the limit itself sends nothing")

    echo = Echo()
    scope = {"type": "http", "headers": list(headers)}
    try:
        async with asyncio.timeout(5):
            await BodyLimit(echo, max_body_bytes=LIMIT)(scope, receive, send)
    except ApiError as error:
        error.taken = taken  # type: ignore[attr-defined]
        raise
    return echo, taken


@pytest.mark.parametrize("pieces", [[b""], [b"0123456789"], [b"01234", b"", b"56789"], [b"0"] * 10])
async def test_a_body_within_the_limit_arrives_whole(pieces: list[bytes]) -> None:
    echo, _ = await send_pieces(pieces)
    assert echo.body == b"".join(pieces)
    assert echo.after == "http.disconnect"


@pytest.mark.parametrize("pieces", [[b"0123456789a"], [b"01234", b"56789", b"a"], [b"0"] * 100])
async def test_a_body_beyond_the_limit_is_refused_as_soon_as_it_is(pieces: list[bytes]) -> None:
    with pytest.raises(ApiError) as caught:
        await send_pieces(pieces)
    assert caught.value.status == 413
    assert "takes 10" in caught.value.message
    assert caught.value.taken <= 11  # type: ignore[attr-defined]


async def test_an_announced_length_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(ApiError, match="11 bytes") as caught:
        await send_pieces([b"x"], headers=[(b"content-length", b"11")])
    assert caught.value.status == 413
    assert caught.value.taken == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1.5", b"0x10", b"\xb2", b"9" * 5000])
async def test_a_length_that_is_none_is_refused_unread(length: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        await send_pieces([b"x"], headers=[(b"content-length", length)])
    assert (caught.value.status, caught.value.code) == (400, "invalid_header")
    assert caught.value.headers == {"connection": "close"}
    assert caught.value.taken == 0  # type: ignore[attr-defined]


class Reader:
    """Reads its body as it arrives, and remembers how much it had when more came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, send
        more = True
        while more:
            message = await receive()
            self.pieces.append(message.get("body", b""))
            more = message.get("more_body", False)


@pytest.mark.parametrize(
    ("method", "path", "num_pieces", "most"),
    [
        ("POST", "/upload", 4, 4),
        ("POST", "/root/upload", 4, 4),
        ("POST", "/upload", 5, 4),
        ("POST", "/upload/x", 3, 0),
        ("PUT", "/upload", 3, 0),
    ],
)
async def test_an_upload_is_counted_as_it_arrives_and_has_a_limit_of_its_own(
    method: str, path: str, num_pieces: int, most: int
) -> None:
    reader = Reader()
    scope = {"type": "http", "headers": [], "method": method, "path": path, "root_path": "/root"}
    messages: list[Message] = [
        {"type": "http.request", "body": b"01234", "more_body": index < num_pieces - 1}
        for index in range(num_pieces)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError("the limit itself sends nothing")

    limit = BodyLimit(reader, max_body_bytes=LIMIT, uploads={"/upload": 20})
    if num_pieces <= most:
        await limit(scope, receive, send)
    else:
        with pytest.raises(ApiError) as caught:
            await limit(scope, receive, send)
        assert caught.value.status == 413
    assert reader.pieces == [b"01234"] * most


async def test_the_announced_length_of_an_upload_is_held_to_its_limit() -> None:
    limit = BodyLimit(Reader(), max_body_bytes=LIMIT, uploads={"/upload": 20})

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(_: Message) -> None: ...

    def announcing(length: bytes) -> Scope:
        headers = [(b"content-length", length)]
        return {"type": "http", "headers": headers, "method": "POST", "path": "/upload"}

    await limit(announcing(b"20"), receive, send)
    for length, status in ((b"21", 413), (b"x", 400)):
        with pytest.raises(ApiError) as caught:
            await limit(announcing(length), receive, send)
        assert caught.value.status == status


async def test_a_client_that_leaves_within_its_body_reaches_nobody() -> None:
    with pytest.raises(ApiError) as caught:
        await send_pieces([b"012"], leaves=True)
    assert caught.value.status == 400
