"""What a user gets wrong ends as one clear message, exit status 1, and nothing half-written."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ray_sft.cli import app

RAY = pytest.mark.usefixtures("local_ray")

GOOD = "text,label\nwhere is my card,card\nmy bill is wrong,bill\n"


def ray_sft(*arguments: str) -> Result:
    """The command, in this process and folder."""
    return CliRunner().invoke(app, list(arguments))


def assert_refused(done: Result, *words: str) -> None:
    message = " ".join(done.stderr.split())
    assert done.exit_code == 1, (message, done.exception)
    assert "error:" in message
    assert "Traceback" not in message
    for word in words:
        assert word in message, message
    assert not Path("runs").exists(), "nothing may be left"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a good recipe and good data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "eval.csv").write_text(GOOD)
    (tmp_path / "recipe.yaml").write_text(
        "name: tiny\nmodel: embedded/minilm\n"
        "tasks: {topic: {kind: sequence_classification}}\n"
        "data:\n  topic:\n"
        "    train: {source: csv, path: train.csv}\n    eval: {source: csv, path: eval.csv}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tasks.topic.kind=sequence_clasification", ["sequence_clasification", "kind"]),
        ("train.lerning_rate=1", ["train.lerning_rate", "unknown key", "learning_rate"]),
        ("train.zero_stage=7", ["train.zero_stage", "7"]),
        ("train.workers", ["has no '='"]),
        ("model=nowhere/at/all", ["'nowhere/at/all' does not exist"]),
        ("model=./missing", ["'./missing' does not exist"]),
        ("data.topic.train.path=missing.csv", ["missing.csv' does not exist"]),
        ("data.topic.train.columns.label=tag", ["no column 'tag'", "text, label"]),
    ],
)
def test_a_wrong_recipe_is_refused_before_work(override: str, words: list[str]):
    done = ray_sft("run", "recipe.yaml", override)
    assert_refused(done, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["train.csv' is empty"]),
        (b'text,label\n"open,card\nshut,bill\n', ["quoting is broken", "line 2"]),
        ("text,label\ncaf\xe9,card\n".encode("latin-1"), ["not utf-8", "0xe9", "encoding"]),
        (b"text,label\nwhere,card\n", ["1 distinct label"]),
    ],
)
@pytest.mark.ray
@RAY
def test_a_broken_file_is_refused_before_work(folder: Path, content: bytes, words: list[str]):
    (folder / "train.csv").write_bytes(content)
    assert_refused(ray_sft("run", "recipe.yaml"), *words)


@pytest.mark.ray
@RAY
def test_a_label_that_only_evaluation_has_is_refused(folder: Path):
    (folder / "eval.csv").write_text(GOOD + "other things,bills\n")
    done = ray_sft("run", "recipe.yaml")
    assert_refused(done, "eval data has label 'bills'", "Did you mean 'bill'")


def test_an_unknown_recipe_lists_those_that_there_are():
    done = ray_sft("run", "costumer_intents")
    assert_refused(done, "costumer_intents", "customer_intents", "customer_replies")


def test_a_hub_model_that_cannot_be_reached_is_refused():
    done = ray_sft("run", "recipe.yaml", "model=nobody/nothing")
    assert_refused(done, "cannot load", "nobody/nothing")


def test_a_folder_without_manifest_is_no_bundle(folder: Path):
    (folder / "thing").mkdir()
    done = ray_sft("predict", "thing", "--text", "hello")
    assert_refused(done, "'thing' is no bundle")


def test_a_port_in_use_is_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        done = ray_sft("app", "--port", port, "--api-key", "x")
    assert done.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in str(done.exception)


def test_the_exit_status_and_the_message_reach_the_shell(folder: Path):
    command = [sys.executable, "-m", "ray_sft.cli", "run", "nonsense"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: recipe 'nonsense'")
