"""What a user gets wrong ends as one clear message, exit status 1, and nothing half-written."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = "text,label\nwhere is my card,card\nmy bill is wrong,bill\n"


def ray_sft(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    command = [sys.executable, "-m", "ray_sft.cli", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, cwd: Path) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    message = " ".join(done.stderr.split())
    assert "error:" in message
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in message, message
    assert not (cwd / "runs").exists(), "nothing may be left"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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
@pytest.mark.timeout(150)
def test_a_wrong_recipe_is_refused_before_work(folder: Path, override: str, words: list[str]):
    done = ray_sft("run", "recipe.yaml", override, cwd=folder)
    assert_refused(done, *words, cwd=folder)


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
@pytest.mark.timeout(150)
def test_a_broken_file_is_refused_before_work(folder: Path, content: bytes, words: list[str]):
    (folder / "train.csv").write_bytes(content)
    assert_refused(ray_sft("run", "recipe.yaml", cwd=folder), *words, cwd=folder)


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_a_label_that_only_evaluation_has_is_refused(folder: Path):
    (folder / "eval.csv").write_text(GOOD + "other things,bills\n")
    done = ray_sft("run", "recipe.yaml", cwd=folder)
    assert_refused(done, "eval data has label 'bills'", "Did you mean 'bill'", cwd=folder)


def test_an_unknown_recipe_lists_those_that_there_are(tmp_path: Path):
    done = ray_sft("run", "costumer_intents", cwd=tmp_path)
    assert_refused(done, "costumer_intents", "customer_intents", "customer_replies", cwd=tmp_path)


def test_a_hub_model_that_cannot_be_reached_is_refused(folder: Path):
    done = ray_sft("run", "recipe.yaml", "model=nobody/nothing", cwd=folder)
    assert_refused(done, "cannot load", "nobody/nothing", cwd=folder)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path):
    (tmp_path / "thing").mkdir()
    done = ray_sft("predict", "thing", "--text", "hello", cwd=tmp_path)
    assert_refused(done, "'thing' is no bundle", cwd=tmp_path)


def test_a_port_in_use_is_named(tmp_path: Path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        done = ray_sft("app", "--port", port, "--api-key", "x", cwd=tmp_path)
    assert_refused(done, port, cwd=tmp_path)
