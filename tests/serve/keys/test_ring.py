"""The keys that open a service."""

import pickle
from pathlib import Path

import pytest

from ray_sft.core import ServeError
from serve.errors import ApiError
from serve.keys import ENVIRONMENT_VARIABLE, KeyLimits, KeyRing, add_key, load_keys


def test_the_environment_adds_keys_that_open_everything(tmp_path: Path) -> None:
    tokens = ["0123456789abcdef-a", "0123456789abcdef-b"]
    keys = load_keys(tmp_path / "none.json", {ENVIRONMENT_VARIABLE: " , ".join([*tokens, ""])})
    found = [keys.find(token) for token in tokens]
    assert [key.name for key in found] == ["environment-1", "environment-2"]
    assert all(key.scopes == ("admin",) and key.expires is None for key in found)


@pytest.mark.parametrize(("token", "length"), [("secret", 6), ("secret" * 100, 600)])
def test_a_key_of_the_environment_of_a_wrong_length_is_refused_without_showing_it(
    tmp_path: Path, token: str, length: int
) -> None:
    message = f"a key of {length} characters; the shortest allowed has 16"
    with pytest.raises(ServeError, match=message) as caught:
        load_keys(tmp_path / "none.json", {ENVIRONMENT_VARIABLE: token})
    assert "secret" not in str(caught.value)


def test_an_empty_ring_opens_for_nobody() -> None:
    for token in ("", "x", "x" * 48):
        with pytest.raises(ApiError):
            KeyRing(()).find(token)


def test_a_ring_reaches_another_process_whole(tmp_path: Path) -> None:
    token = add_key(tmp_path / "keys.json", name="first")
    ring = load_keys(tmp_path / "keys.json", {ENVIRONMENT_VARIABLE: "0123456789abcdef"})
    copy = pickle.loads(pickle.dumps(ring))
    assert copy == ring
    assert copy.find(token).name == "first"


def test_limits_of_a_key_go_before_the_services_and_zero_is_none() -> None:
    defaults = KeyLimits(requests_per_minute=60, concurrent_requests=4)
    own = KeyLimits(requests_per_minute=0, tokens_per_minute=7)
    assert own.over(defaults) == KeyLimits(
        requests_per_minute=0, tokens_per_minute=7, concurrent_requests=4
    )
    assert KeyLimits().over(defaults) == defaults


def test_a_model_stands_for_its_heads_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, name="all")
    add_key(path, name="some", models=["market", "news/topic"])
    all_models, some = load_keys(path, {}).keys
    asked = ["market", "market/click", "news", "news/topic", "news/mood", "marketing", ""]
    assert [all_models.may_ask(name) for name in asked] == [True] * 7
    assert [some.may_ask(name) for name in asked] == [True, True, False, True, False, False, False]
