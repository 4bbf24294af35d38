import json
import stat
from pathlib import Path

import pytest

from ray_sft.core import ServeError
from serve.keys import ENVIRONMENT_VARIABLE, KeyRing, add_key, load_keys


def test_a_new_key_opens_and_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    token = add_key(path, name="first")
    keys = load_keys(path, {})
    assert keys.match(token) == "first"
    for wrong in ("", token[:-1], token + "x", token.upper(), keys.keys[0].sha256):
        assert keys.match(wrong) is None


def test_the_file_is_private_and_holds_no_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    token = add_key(path, name="first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_keys_are_added_and_keep_working(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = add_key(path, name="one"), add_key(path, name="two")
    assert one != two
    keys = load_keys(path, {})
    assert (keys.match(one), keys.match(two)) == ("one", "two")
    with pytest.raises(ServeError, match="has a key 'one' already"):
        add_key(path, name="one")


def test_the_environment_adds_keys(tmp_path: Path) -> None:
    tokens = ["0123456789abcdef-a", "0123456789abcdef-b"]
    keys = load_keys(tmp_path / "none.json", {ENVIRONMENT_VARIABLE: " , ".join([*tokens, ""])})
    assert [keys.match(token) for token in tokens] == ["environment-1", "environment-2"]


def test_a_short_key_of_the_environment_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="a key of 6 characters; the shortest allowed has 16") as e:
        load_keys(tmp_path / "none.json", {ENVIRONMENT_VARIABLE: "secret"})
    assert "secret" not in str(e.value)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"keys": [{"name": "x", "sha256": "short"}]}', '{"keyz": []}']
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


def test_an_empty_ring_opens_for_nobody() -> None:
    assert KeyRing(()).match("") is None


def test_the_file_lists_name_and_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, name="first")
    (entry,) = json.loads(path.read_text())["keys"]
    assert entry["name"] == "first"
    assert entry["created"].endswith("+00:00")
