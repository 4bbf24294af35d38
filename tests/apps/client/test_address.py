"""URL and key are checked before anything is sent, and the key is shown nowhere."""

import warnings

import pytest

from apps.client import AsyncClient, Client
from apps.client.options import Options

KEY = "rsft-a-key-that-must-not-be-seen"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[1"],
)
def test_what_is_no_url_is_refused_with_how_one_looks(kind, url):
    with pytest.raises(ValueError, match=r"is not the URL of a service\. Write it as"):
        kind(url)


@pytest.mark.parametrize("url", ["http://user:secret@host", "http://host/?a=b", "http://host#x"])
def test_a_url_holds_no_secret_and_no_query(url):
    with pytest.raises(ValueError, match="has no user") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_a_prefix_stays_and_a_slash_goes():
    assert repr(Client("https://host/models/ ")) == "<Client of https://host/models>"
    assert repr(AsyncClient("http://[::1]:8000")) == "<AsyncClient of http://[::1]:8000>"


@pytest.mark.parametrize("key", ["two words", "line\nend", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match="Copy it") as caught:
        Client("http://127.0.0.1", api_key=key)
    assert key not in str(caught.value)


def test_limits_under_which_no_call_succeeds_are_refused():
    for limits in ({"timeout_s": 0.0}, {"connect_timeout_s": -1.0}, {"max_connections": 0}):
        with pytest.raises(ValueError, match="must be above 0"):
            Client("http://127.0.0.1", **limits)
    with pytest.raises(ValueError, match="must be above 0"):
        Client("http://127.0.0.1").with_options(timeout_s=-1.0)


def test_no_representation_shows_the_key():
    client = Client("http://127.0.0.1", api_key=KEY)
    seen = [repr(client), str(client), repr(client._options), repr(client.assistant)]
    seen += [repr(client._transport._http.headers), repr(client.with_options(timeout_s=1))]
    assert all(KEY not in text for text in seen)
    assert Options.__dataclass_fields__["api_key"].repr is False


@pytest.mark.parametrize(
    ("url", "key", "warns"),
    [
        ("http://models.example.com", KEY, True),
        ("http://10.0.0.7:8000", KEY, True),
        ("http://models.example.com", "", False),
        ("https://models.example.com", KEY, False),
        ("http://127.0.0.1:8000", KEY, False),
        ("http://127.8.9.1", KEY, False),
        ("http://[::1]:8000", KEY, False),
        ("http://localhost:8000", KEY, False),
    ],
)
def test_a_key_in_clear_text_over_a_network_is_warned_of(url, key, warns):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Client(url, api_key=key)
    assert len(seen) == warns
    if warns:
        assert seen[0].filename == __file__  # it points to who opened the client
        assert "in clear text" in str(seen[0].message)
        assert KEY not in str(seen[0].message)


def test_the_warning_comes_once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            AsyncClient("http://models.example.com", api_key=KEY)
    assert len(seen) == 1
