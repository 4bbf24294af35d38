import pytest
from pydantic import ValidationError

from ray_sft.core import ServeError
from serve.monitor import MonitorArgs


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("webhook_url", "ftp://example.com/", "begins with https:// or http://"),
        ("webhook_url", "https:///path", "names a host"),
        ("webhook_url", "https://user:word@example.com/", "no user or password"),
        ("webhook_url", "https://example.com:99999/", "out of range"),
        ("webhook_url", "http://127.0.0.1/", "private address 127.0.0.1"),
        ("webhook_url", "http://[::1]/", "private address ::1"),
        ("positive", ("negative",), "'negative' is both"),
        ("negative", (), "at least 1"),
        ("bucket_s", 0, "greater than or equal to 1"),
        ("alerts", {"num_hits": 2}, "more than out_of"),
        ("alerts", {"raise_p": 0.1}, "below raise_p"),
        ("alerts", {"quiet_buckets": 99}, "more than max_buckets"),
        ("threshold", 1, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MonitorArgs.model_validate({"model": "market", field: value})


def test_a_private_webhook_is_taken_where_that_is_said() -> None:
    url = "http://127.0.0.1:9000/hook"
    args = MonitorArgs(model="market", webhook_url=url, webhook_allow_private=True)
    assert args.webhook_url == url


def test_sentiments_that_the_model_does_not_have_are_told() -> None:
    args = MonitorArgs(model="market", negative=("bearish",), positive=())
    args.check_sentiments(("bearish", "bullish"))
    with pytest.raises(ServeError, match=r"no sentiment 'bearish' \(it has: bad, good\)"):
        args.check_sentiments(("bad", "good"))
