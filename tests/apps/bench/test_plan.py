"""What makes a load, and when its requests come."""

import json

import numpy as np
import pytest

from apps.bench import Plan, read_texts, seconds_in
from apps.bench.load import arrival_times
from apps.bench.routes import ROUTES
from apps.bench.wire import address_of, make_requests

TEXTS = ("one", "two", "three")


def plan(**parts):
    return Plan(**{"url": "http://host:8000", "texts": TEXTS} | parts)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("2m", 120.0), ("500ms", 0.5), ("1.5s", 1.5), (" 7 ", 7.0)],
)
def test_durations(text, seconds):
    assert seconds_in(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h", "1s 2", "nan", "inf"])
def test_what_is_no_duration_is_told(text):
    with pytest.raises(ValueError, match=r"Write it as 30s, 2m or 500ms"):
        seconds_in(text)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"route": "dance"}, "none of classify, entities"),
        ({"texts": ()}, "no text to send"),
        ({"connections": 0}, "connections is 0"),
        ({"duration_s": 0.0}, "duration_s is 0"),
        ({"duration_s": float("nan")}, "duration_s is nan"),
        ({"rate": 0.0}, "must be above 0"),
        ({"arrivals": "weekly"}, "neither 'poisson' nor 'constant'"),
        ({"route": "chat", "texts_per_request": 2}, "takes one text a request"),
    ],
)
def test_parts_that_make_no_load_are_told(parts, message):
    with pytest.raises(ValueError, match=message):
        plan(**parts)


def test_texts_come_with_the_package_and_from_files(tmp_path):
    assert len(read_texts(None)) >= 20
    assert any(ord(letter) > 0x4E00 for text in read_texts(None) for letter in text)
    path = tmp_path / "texts"
    path.write_text("  a\u2028b \n\n包邮\r\n", encoding="utf-8")
    assert read_texts(path) == ("a\u2028b", "包邮")
    with pytest.raises(ValueError, match="cannot be read as UTF-8"):
        read_texts(tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read as UTF-8"):
        read_texts(path)


def test_addresses():
    assert address_of("https://host/models") == address_of("https://host:443")
    found = address_of("http://[::1]:9")
    assert (found.host, found.port, found.is_secure) == ("::1", 9, False)


def test_requests_are_whole_and_hold_every_text():
    requests = make_requests(plan(model="intents", url="http://host:8000/models/"), key="rsft-k")
    assert len(requests) == 3
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /models/v1/classify HTTP/1.1\r\nhost: host:8000\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert b"authorization: Bearer rsft-k" in head
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]
    assert bodies == [{"input": text, "model": "intents"} for text in TEXTS]
    assert b"authorization" not in make_requests(plan(), key="")[0]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_requests_of_several_texts_are_full(size):
    requests = make_requests(plan(texts_per_request=size), key="")
    sent = [json.loads(request.partition(b"\r\n\r\n")[2])["input"] for request in requests]
    assert all(len(texts) == size for texts in sent)
    assert {text for texts in sent for text in texts} == set(TEXTS)
    assert len(requests) == -(-3 // size)


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_has_a_request(route):
    (request, *_) = make_requests(plan(route=route), key="")
    assert ROUTES[route].path.encode() in request
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    assert body.get("stream", False) is ROUTES[route].writes
    assert "one" in json.dumps(body)


def times(arrivals, rate, num):
    found = arrival_times(rate, arrivals, seed=0)
    return np.array([next(found) for _ in range(num)])


def test_constant_arrivals_are_equally_far_apart_for_ever():
    found = times("constant", 30.0, 100_000)
    assert found[0] == 0.0
    assert found[-1] == pytest.approx(99_999 / 30.0, abs=1e-9)  # no error adds up


def test_poisson_arrivals_have_exponential_gaps():
    gaps = np.diff(times("poisson", 200.0, 50_000))
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.02)  # as large as the mean
    assert (gaps > 2 / 200).mean() == pytest.approx(np.exp(-2), rel=0.03)
    assert times("poisson", 5.0, 3).tolist() == times("poisson", 5.0, 3).tolist()
