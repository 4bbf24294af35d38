"""Bytes on a real socket that no HTTP client would send, to a real server."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from serve.keys import KeyRing
from tests.apps.serving import free_port, serving

from .bare_asgi import bordered
from .conftest import TOKEN

HEAD = (
    b"POST /v1/classify HTTP/1.1\r\nhost: service\r\nauthorization: Bearer "
    + TOKEN.encode()
    + b"\r\ncontent-type: application/json\r\n"
)
BODY = b'{"input": "where is my parcel"}'


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    place = urlsplit(url)
    assert place.hostname
    assert place.port
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        yield connection


def statuses(answer: bytes) -> list[int]:
    lines = [line for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line]
    return [int(line.partition(b"HTTP/1.1 ")[2][:3]) for line in lines]


def exchange(url: str, sent: bytes) -> list[int]:
    """The statuses of all replies until the server closes; a request behind asks it to close."""
    close = b"GET /healthz HTTP/1.1\r\nhost: service\r\nconnection: close\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(sent + close)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return statuses(answer)


def is_well(url: str) -> bool:
    return exchange(url, HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)) == [200, 200]


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (b"content-length: 31\r\n", BODY, [200, 200]),
        (b"transfer-encoding: chunked\r\n", b"1f\r\n" + BODY + b"\r\n0\r\n\r\n", [200, 200]),
        # a length that lies: what is left over is no request
        (b"content-length: 5\r\n", BODY, [400, 400]),
        (b"content-length: 0\r\n", BODY, [400, 400]),
        (b"content-length: 31\r\ncontent-length: 5\r\n", BODY, [400]),
        (b"content-length: 31\r\ntransfer-encoding: chunked\r\n", BODY, [400]),
        (b"transfer-encoding: chunked\r\ncontent-length: 31\r\n", b"0\r\n\r\n", [400]),
        (b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n", [400]),
        (b"transfer-encoding : chunked\r\n", b"0\r\n\r\n", [400]),
        (b"content-length: -1\r\n", BODY, [400]),
        (b"content-length: +31\r\n", BODY, [400]),
        (b"content-length: 99999999999999999999\r\n", BODY, [400]),
        (b"content-length: 9999999\r\n", b"", [413]),
        (b"authorization: Bearer x\r\ncontent-length: 31\r\n", BODY, [400]),
        (b"connection: authorization\r\ncontent-length: 31\r\n", BODY, [400]),
        (b"x-a: " + b"a" * 50_000 + b"\r\ncontent-length: 31\r\n", BODY, [431]),
        (b"x-a: a\x00b\r\ncontent-length: 31\r\n", BODY, [400]),
        (b"x-a: a\r\n b\r\ncontent-length: 31\r\n", BODY, [400]),
    ],
)
def test_a_request_has_one_end_or_is_refused(
    server_url: str, headers: bytes, body: bytes, expected: list[int]
) -> None:
    found = exchange(server_url, HEAD + headers + b"\r\n" + body)
    assert found in (expected, expected[:1])  # a refused connection may be closed at once
    assert is_well(server_url)


@pytest.mark.parametrize(
    "path", [b"/v1/\xff\xfe", b"/v1/%00", b"/v1/%ff%zz", b"/\x7f", b"/v1/%0d%0a"]
)
def test_an_odd_address_is_refused_without_a_fault(server_url: str, path: bytes) -> None:
    head = HEAD.replace(b"/v1/classify", path)
    found = exchange(server_url, head + b"content-length: 31\r\n\r\n" + BODY)
    assert found[0] in (400, 404)
    assert is_well(server_url)


def test_a_client_that_leaves_within_its_body_is_forgotten(server_url: str) -> None:
    for _ in range(20):
        with connected(server_url) as connection:
            connection.sendall(HEAD + b"content-length: 31\r\n\r\n" + BODY[:10])
    assert is_well(server_url)


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        (b"content-length: 900", [b"x"] * 900),
        (b"transfer-encoding: chunked", [b"1\r\nx\r\n"] * 900),
        (b"content-length: 900", []),
    ],
)
def test_a_body_that_trickles_is_cut_off_at_the_deadline(
    keys: KeyRing, length: bytes, pieces: Sequence[bytes]
) -> None:
    port = free_port()
    with (
        serving(bordered(keys, request_timeout_s=0.6), port),
        connected(f"http://127.0.0.1:{port}") as connection,
    ):
        begin = time.monotonic()
        connection.sendall(HEAD + length + b"\r\n\r\n")
        answer = trickled(connection, pieces)
        lasted = time.monotonic() - begin
    assert statuses(answer) == [408]
    assert b"connection: close" in answer.lower()
    assert 0.5 < lasted < 5


def trickled(connection: socket.socket, pieces: Sequence[bytes]) -> bytes:
    """The reply to pieces that come one by one, up to the server's closing the connection."""
    connection.settimeout(0.02)
    answer = b""
    for piece in [*pieces, *[b""] * 900]:
        try:
            if piece:
                connection.sendall(piece)
            data = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        if not data:
            break
        answer += data
    return answer
