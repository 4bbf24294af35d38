"""Making, rotating and revoking keys, and what a file of keys may hold."""

import json
import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ray_sft.core import ServeError
from serve.errors import ApiError
from serve.keys import KeyLimits, add_key, load_keys, revoke_key, rotate_key

WHOLE = {"name": "x", "sha256": "0" * 64}


def code_of(path: Path, token: str) -> str:
    """The name of the key that opens, or why it does not."""
    try:
        return load_keys(path, {}).find(token).name
    except ApiError as error:
        return error.code if error.status == 401 else f"status {error.status}"


def test_a_new_key_opens_and_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    token = add_key(path, name="first")
    assert code_of(path, token) == "first"
    digest = load_keys(path, {}).keys[0].sha256
    for wrong in ("", token[:-1], token + "x", token.upper(), digest, "x" * 100_000, "é", "\x00"):
        assert code_of(path, wrong) == "invalid_api_key"


def test_the_file_is_private_and_holds_no_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    tokens = [add_key(path, name="first"), rotate_key(path, name="first", grace=timedelta(days=1))]
    revoke_key(path, name="first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(token not in path.read_text() for token in tokens)
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_keys_are_added_and_keep_working(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = add_key(path, name="one"), add_key(path, name="two")
    assert one != two
    assert (code_of(path, one), code_of(path, two)) == ("one", "two")
    with pytest.raises(ServeError, match="has a key 'one' already"):
        add_key(path, name="one")


def test_what_a_key_may_do_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    limits = KeyLimits(requests_per_minute=60, concurrent_requests=0)
    before = datetime.now(UTC)
    token = add_key(
        path,
        name="web",
        scopes=["chat", "read"],
        models=["replies"],
        lifetime=timedelta(days=90),
        limits=limits,
    )
    key = load_keys(path, {}).find(token)
    assert (key.scopes, key.models, key.limits) == (("chat", "read"), ("replies",), limits)
    assert key.expires is not None
    assert abs(key.expires - before - timedelta(days=90)) < timedelta(seconds=5)
    assert key.created.endswith("+00:00")


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "é", "x" * 65, "environment-1", "a\n"])
def test_a_name_that_could_mislead_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServeError, match="cannot name a key"):
        add_key(tmp_path / "keys.json", name=name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_before_opens_everything_and_is_kept_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    token = add_key(path, name="old")
    digest = load_keys(path, {}).keys[0].sha256
    old = {"name": "old", "sha256": digest, "created": "2025-01-01T00:00:00+00:00"}
    path.write_text(json.dumps({"keys": [old]}))
    key = load_keys(path, {}).find(token)
    assert (key.scopes, key.models, key.expires) == (("admin",), (), None)
    add_key(path, name="new")
    assert json.loads(path.read_text())["keys"][0] == old


def test_both_tokens_open_within_the_grace_of_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, name="web", scopes=["chat"])
    second = rotate_key(path, name="web", grace=timedelta(hours=1))
    third = rotate_key(path, name="web", grace=timedelta(hours=1))
    assert len({first, second, third}) == 3
    assert [code_of(path, token) for token in (first, second, third)] == ["web"] * 3
    fourth = rotate_key(path, name="web", grace=timedelta(0))
    assert [code_of(path, token) for token in (first, third, fourth)] == [
        "web",
        "invalid_api_key",
        "web",
    ]
    assert load_keys(path, {}).find(fourth).scopes == ("chat",)


def past(path: Path, field: str) -> None:
    """Sets the expiry of the file's key, or of its old token, to a moment ago."""
    tree = json.loads(path.read_text())
    moment = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    place = tree["keys"][0]["retiring"][0] if field == "retiring" else tree["keys"][0]
    place["expires"] = moment
    path.write_text(json.dumps(tree))


def test_a_key_and_an_old_token_end_at_their_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = add_key(path, name="web", lifetime=timedelta(days=1))
    new = rotate_key(path, name="web", grace=timedelta(days=9))
    past(path, "retiring")
    assert (code_of(path, old), code_of(path, new)) == ("expired_api_key", "web")
    past(path, "key")
    assert code_of(path, new) == "expired_api_key"


def test_an_old_token_does_not_outlive_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = add_key(path, name="web", lifetime=timedelta(days=1))
    rotate_key(path, name="web", grace=timedelta(days=9))
    past(path, "key")
    assert code_of(path, old) == "expired_api_key"


def test_a_revoked_key_is_closed_with_all_its_tokens_and_stays_listed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old, other = add_key(path, name="web"), add_key(path, name="other")
    new = rotate_key(path, name="web", grace=timedelta(days=1))
    revoke_key(path, name="web")
    revoke_key(path, name="web")
    assert code_of(path, new) == "revoked_api_key"
    assert code_of(path, old) == "invalid_api_key"
    assert code_of(path, other) == "other"
    assert load_keys(path, {}).keys[0].state(datetime.now(UTC)) == "revoked"
    with pytest.raises(ServeError, match="key 'web' is revoked"):
        rotate_key(path, name="web", grace=timedelta(0))


def test_what_is_not_there_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ServeError, match="does not exist"):
        revoke_key(path, name="web")
    add_key(path, name="one")
    with pytest.raises(ServeError, match=r"has no key 'web'\. It has: one"):
        rotate_key(path, name="web", grace=timedelta(0))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"keys": [{"name": "x", "sha256": "short"}]}',
        '{"keyz": []}',
        json.dumps({"keys": [WHOLE | {"scopes": ["root"]}]}),
        json.dumps({"keys": [WHOLE | {"scopes": []}]}),
        json.dumps({"keys": [WHOLE | {"expires": "2026-01-01T00:00:00"}]}),
        json.dumps({"keys": [WHOLE | {"limits": {"requests_per_minute": -1}}]}),
        json.dumps({"keys": [WHOLE, WHOLE | {"sha256": "1" * 64}]}),
    ],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ServeError, match=r"keys.json' is damaged"):
        load_keys(path, {})
    with pytest.raises(ServeError, match=r"keys.json' is damaged"):
        add_key(path, name="new")
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match="cannot be read: Not a directory"):
        add_key(tmp_path / "file" / "keys.json", name="first")
    with pytest.raises(ServeError, match=r"cannot be written.*Choose another with --keys-file"):
        add_key(Path("/proc/nobody-writes-here/keys.json"), name="first")


def add_some(path: Path, prefix: str) -> None:
    for number in range(15):
        add_key(path, name=f"{prefix}{number}")


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_some, args=(path, prefix)) for prefix in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert len(load_keys(path, {}).keys) == 45
