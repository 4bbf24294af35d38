"""A running service follows its key file."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from serve.errors import ApiError
from serve.keys import (
    ENVIRONMENT_VARIABLE,
    Keys,
    KeyWatch,
    add_key,
    follow_file,
    load_keys,
    revoke_key,
    rotate_key,
)
from tests.waiting import async_wait_until

ENVIRONMENT = {ENVIRONMENT_VARIABLE: "0123456789abcdef"}


def opens(keys: Keys, token: str) -> bool:
    try:
        keys.find(token)
    except ApiError:
        return False
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.asyncio
async def test_changes_are_taken_up_while_it_runs(path: Path) -> None:
    first = add_key(path, name="first")
    watch = KeyWatch(load_keys(path, ENVIRONMENT), path, every_s=0.01)
    async with watch.running():
        second = add_key(path, name="second")
        await async_wait_until(lambda: opens(watch, second))
        third = rotate_key(path, name="second", grace=timedelta(0))
        await async_wait_until(lambda: opens(watch, third))
        revoke_key(path, name="first")
        await async_wait_until(lambda: not opens(watch, first))
    assert [opens(watch, token) for token in (first, second, third)] == [False, False, True]
    assert opens(watch, ENVIRONMENT[ENVIRONMENT_VARIABLE])


def test_a_change_between_start_and_the_first_look_is_seen(path: Path) -> None:
    first = add_key(path, name="first")
    watch = KeyWatch(load_keys(path, {}), path)
    revoke_key(path, name="first")
    watch.look()
    assert not opens(watch, first)


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": [{}]}', b"\xff", None])
def test_a_damaged_or_missing_file_changes_nothing_and_is_said_once(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_key(path, name="first")
    good = path.read_bytes()
    watch = KeyWatch(load_keys(path, {}), path)
    watch.look()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        watch.look()
        watch.look()
    assert opens(watch, token)
    assert len(caplog.records) == 1
    assert "goes on with the keys that it has" in caplog.text
    path.write_bytes(good)
    later = add_key(path, name="later")
    watch.look()
    assert opens(watch, later)


def test_another_file_in_its_place_opens_nothing(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_key(path, name="first")
    watch = KeyWatch(load_keys(path, {}), path)
    other = tmp_path / "other.json"
    foreign = add_key(other, name="first")
    other.replace(path)
    watch.look()
    assert (opens(watch, token), opens(watch, foreign)) == (True, False)
    assert "is not the one that the service began with" in caplog.text


def test_a_service_without_a_file_follows_none(path: Path) -> None:
    keys = follow_file(load_keys(path, ENVIRONMENT), path)
    assert not isinstance(keys, KeyWatch)
    add_key(path, name="first")
    assert isinstance(follow_file(load_keys(path, ENVIRONMENT), path), KeyWatch)


def test_an_unchanged_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(path, name="first")
    watch = KeyWatch(load_keys(path, {}), path)
    watch.look()
    reads = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or read_bytes(self))
    watch.look()
    assert reads == []
    add_key(path, name="second")
    reads.clear()
    watch.look()
    assert reads == [path]
