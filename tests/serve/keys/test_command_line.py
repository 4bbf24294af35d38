"""`ray-sft keys`: what it prints, keeps and refuses."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ray_sft import cli
from ray_sft.cli import app
from ray_sft.cli.keys import KEYS_FILE
from serve.args import ServiceArgs
from serve.keys import load_keys
from serve.keys.scopes import SCOPES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def keys(path: Path, *arguments: str, width: int = 200) -> Result:
    line = ["keys", *arguments, "--keys-file", str(path)]
    # a console that was made where COLUMNS was set keeps that width
    former, cli.console._width = cli.console._width, width
    try:
        return CliRunner().invoke(app, line, env={"COLUMNS": str(width)})
    finally:
        cli.console._width = former


def added(path: Path, *arguments: str) -> str:
    """The token."""
    done = keys(path, "add", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def test_the_token_alone_is_on_the_standard_output(path: Path) -> None:
    done = keys(path, "add", "web")
    token = done.stdout.strip()
    assert done.stdout == f"{token}\n"
    assert "shown this once" in done.stderr
    assert token not in done.stderr
    assert load_keys(path, {}).find(token).scopes == ("admin",)


def test_every_option_reaches_the_key(path: Path) -> None:
    token = added(
        path,
        *("web", "--scope", "chat", "--scope", "read", "--scope", "chat", "--model", "replies"),
        *("--expires", "90d", "--requests-per-minute", "60", "--tokens-per-minute", "0"),
        *("--concurrent", "4"),
    )
    key = load_keys(path, {}).find(token)
    assert (key.scopes, key.models) == (("chat", "read"), ("replies",))
    assert key.limits.model_dump() == {
        "requests_per_minute": 60,
        "tokens_per_minute": 0,
        "concurrent_requests": 4,
    }
    listed = keys(path, "ls").stdout
    for shown in ("web", "chat read", "replies", "valid", "60 requests/min", "any tokens/min"):
        assert shown in listed
    assert "4 at once" in listed


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_list_shows_all_but_tokens_and_hashes(path: Path, width: int) -> None:
    tokens = [added(path, "first", "--expires", "2w"), added(path, "prometheus-of-the-team")]
    tokens.append(keys(path, "rotate", "first", "--grace", "24h").stdout.strip())
    keys(path, "revoke", "prometheus-of-the-team")
    listed = keys(path, "ls", width=width).stdout
    assert "…" not in listed
    squeezed = "".join(character for character in listed if character.isalnum())
    if width == 200:
        for shown in ("prometheus-of-the-team", "revoked", "old token until", "never"):
            assert shown in listed
    for key in load_keys(path, {}).keys:
        for secret in (key.sha256, *(old.sha256 for old in key.retiring)):
            assert secret[:12] not in squeezed
    for token in tokens:
        assert token[5:17].replace("-", "").replace("_", "") not in squeezed


def test_rotating_and_revoking(path: Path) -> None:
    first = added(path, "web")
    second = keys(path, "rotate", "web").stdout.strip()
    ring = load_keys(path, {})
    assert [ring.find(token).name for token in (first, second)] == ["web", "web"]
    done = keys(path, "revoke", "web")
    assert (done.exit_code, done.stdout) == (0, "key 'web' is revoked\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "web"], "has a key 'web' already"),
        (["add", "a b"], "'a b' cannot name a key"),
        (["add", "x", "--scope", "root"], "there is no scope 'root'. Those there are: admin"),
        (["add", "x", "--expires", "soon"], "'soon' is no length of time"),
        (["add", "x", "--expires", "9999999d"], "is no length of time"),
        (["add", "x", "--requests-per-minute", "-1"], "should be greater than or equal to 0"),
        (["rotate", "web", "--grace", "1"], "'1' is no length of time"),
        (["rotate", "other"], "has no key 'other'. It has: web"),
        (["revoke", "other"], "has no key 'other'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    path: Path, arguments: list[str], message: str
) -> None:
    added(path, "web")
    before = path.read_bytes()
    done = keys(path, *arguments)
    assert done.exit_code != 0
    assert message in " ".join(done.stderr.replace("│", "").split())
    assert done.stdout == ""
    assert path.read_bytes() == before


def test_a_missing_file_is_named(path: Path) -> None:
    for arguments in (["ls"], ["revoke", "web"], ["rotate", "web"]):
        done = keys(path, *arguments)
        assert done.exit_code == 1
        assert f"key file '{path}' does not exist" in done.stderr
    assert not path.exists()


def test_the_command_and_the_service_mean_the_same_file_and_scopes() -> None:
    assert str(KEYS_FILE) == ServiceArgs.model_fields["keys_file"].default
    help_text = CliRunner().invoke(app, ["keys", "add", "--help"], env={"COLUMNS": "200"}).stdout
    assert all(scope in help_text for scope in SCOPES)
