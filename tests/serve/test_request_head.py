"""Heads of requests that another program may understand otherwise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.border import Border
from serve.keys import KeyRing

from .bare_asgi import ask, bordered
from .conftest import TOKEN

pytestmark = pytest.mark.asyncio

BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.fixture
def border(keys: KeyRing) -> Border:
    return bordered(keys)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([(b"content-length", b"2")], "ok"),
        ([CHUNKED], "ok"),
        ([CHUNKED, (b"content-length", b"2")], "ambiguous_length"),
        ([(b"content-length", b"2"), (b"content-length", b"3")], "repeated_header"),
        ([(b"content-length", b"-2")], "invalid_header"),
        ([(b"content-length", b"two")], "invalid_header"),
        ([(b"content-length", b"9" * 5000)], "invalid_header"),
        ([(b"content-length", b"9" * 15)], "body_too_large"),
        ([BEARER], "repeated_header"),
        ([(b"host", b"a"), (b"host", b"b")], "repeated_header"),
        ([(b"x-request-id", b"a"), (b"x-request-id", b"a")], "repeated_header"),
        ([(b"accept", b"a"), (b"accept", b"b"), (b"x-forwarded-for", b"1.2.3.4")], "ok"),
        ([(b"connection", b"keep-alive, upgrade, http2-settings")], "ok"),
        ([(b"connection", b"close, Authorization")], "unsupported_header"),
        ([(b"connection", b"content-length")], "unsupported_header"),
        ([(b"connection", b"x-request-timeout-seconds")], "unsupported_header"),
        ([(b"serve_multiplexed-model_id", b"x")], "unsupported_header"),
        ([(b"x-request-timeout-seconds", b"0")], "unsupported_header"),
        ([(b"x-anything", b"x" * 40_000)], "headers_too_large"),
        ([(b"x-%d" % number, b"") for number in range(100)], "headers_too_large"),
        ([(b"x-anything", b"\xff\x00")], "ok"),
    ],
)
async def test_a_head_has_one_meaning_or_is_refused(
    border: Border, headers: list[tuple[bytes, bytes]], code: str
) -> None:
    reply = await ask(border, TOKEN, headers=headers)
    assert reply.code == code
    statuses = {"ok": 200, "body_too_large": 413, "headers_too_large": 431}
    assert reply.status == statuses.get(code, 400)


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ([CHUNKED, (b"content-length", b"2")], True),
        ([BEARER, BEARER], True),
        ([(b"connection", b"authorization")], True),
        ([(b"x-request-id", b"a b")], False),
    ],
)
async def test_after_an_ambiguous_head_the_connection_is_closed(
    border: Border, headers: list[tuple[bytes, bytes]], closes: bool
) -> None:
    reply = await ask(border, None, headers=headers)
    assert reply.status == 400
    assert (reply.headers.get("connection") == "close") is closes


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        (b"", 401, "missing_api_key"),
        (b"Bearer \xc3\xa9", 401, "invalid_api_key"),
        (b"Bearer \xff\x00", 401, "invalid_api_key"),
        (b"Bearer " + b"x" * 900, 401, "invalid_api_key"),
        (b"Bearer " + b"x" * 9000, 400, "invalid_header"),
        (b"bearer  " + TOKEN.encode() + b" ", 200, "ok"),
        (TOKEN.encode() + b", Bearer " + TOKEN.encode(), 401, "invalid_api_key"),
    ],
)
async def test_an_odd_authorization_is_refused_without_a_fault(
    border: Border, value: bytes, status: int, code: str
) -> None:
    reply = await ask(border, None, headers=[(b"authorization", value)])
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("path", "query"),
    [("/v1/a\x00b", b""), ("/v1/a\nb", b""), ("/v1/\x7f", b""), ("/v1/a", b"topic=%00")],
)
async def test_an_address_with_a_control_character_reaches_nothing(
    border: Border, path: str, query: bytes
) -> None:
    reply = await ask(border, TOKEN, "GET", path, query=query)
    assert (reply.status, reply.code) == (400, "invalid_value")


@settings(deadline=None)
@given(
    headers=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(
                    [
                        *(b"authorization", b"connection", b"content-length", b"host"),
                        *(b"transfer-encoding", b"x-request-id", b"content-type"),
                    ]
                ),
                st.binary(min_size=1, max_size=8).map(bytes.lower),
            ),
            st.one_of(st.binary(max_size=40), st.just(BEARER[1]), st.just(b"2")),
        ),
        max_size=8,
    ),
    path=st.text(max_size=20).map("/".__add__),
    query=st.binary(max_size=20),
)
async def test_no_head_makes_a_fault(
    keys: KeyRing, headers: list[tuple[bytes, bytes]], path: str, query: bytes
) -> None:
    reply = await ask(bordered(keys), None, path=path, query=query, headers=headers)
    assert reply.status in (200, 400, 401, 413)
