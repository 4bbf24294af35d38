"""Editors and type checkers see the types of both clients, though each call is written once."""

import subprocess
import sys

CODE = """
from typing import Any, assert_type
from collections.abc import Coroutine

from apps.client import AsyncClient, AsyncStream, Client, Message, ServiceError, Stream
from apps.replies.generation import Piece
from apps.replies.monitor import Topic
from apps.replies.texts import Classification


def check(client: Client, other: AsyncClient) -> None:
    assert_type(client.classify("a", top_k=2), Classification)
    assert_type(client.classify_many(["a"]), list[Classification | ServiceError])
    assert_type(other.classify("a"), Coroutine[Any, Any, Classification])
    assert_type(client.monitor.topics(), list[Topic])
    assert_type(client.stream_chat([Message("user", "a")], seed=1), Stream[Piece])
    assert_type(other.stream_chat([]), AsyncStream[Piece])
    assert_type(client.with_options(timeout_s=1.0), Client)
    client.classify("a", model="m", top_kk=2)  # E: top_kk
    client.classify(3)  # E: incompatible type
    client.chat([], seeds=1)  # E: seeds
"""


def test_a_type_checker_sees_calls_and_replies(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    found = subprocess.run(
        [*command, f"--cache-dir={tmp_path}", path],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    lines = [line for line in found.stdout.splitlines() if "error: " in line]
    # awaiting nothing is told too, since the second client's calls are coroutines
    told = [line for line in lines if "unused-coroutine" not in line]
    expected = [line.partition("# E: ")[2] for line in CODE.splitlines() if "# E: " in line]
    assert len(told) == len(expected), found.stdout + found.stderr
    for line, word in zip(told, expected, strict=True):
        assert word in line
