"""What a line of an input file may be, and where a file is cut."""

import json
from pathlib import Path

import pytest

from serve.batches import BatchArgs
from serve.batches.lines import check_lines, read_block

from .conftest import request_line

ARGS = BatchArgs(max_lines=6, max_line_bytes=300)
URL = "/v1/classify"


def line(name: str = "a", /, **changes: object) -> bytes:
    return json.dumps(request_line(name, {"input": "x"}) | changes).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("block_lines", [1, 2, 3, 5, 100])
def test_blocks_hold_every_line_once_and_in_order(
    path: Path, block_lines: int, last: bytes
) -> None:
    rows = [
        request_line(f"é{number}", {"input": "\u2028\x85 line\n" * number}) for number in range(5)
    ]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes((last or b"\n").join(lines) + last)
    checked = check_lines(path, URL, ARGS, block_lines=block_lines)
    assert not checked.errors
    assert checked.num_lines == 5
    assert [block.index for block in checked.blocks] == list(range(-(-5 // block_lines)))
    found = [one for block in checked.blocks for one in read_block(path, block)]
    assert [one.model_dump() for one in found] == rows
    assert [len(read_block(path, block)) for block in checked.blocks] == [
        block.num_lines for block in checked.blocks
    ]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"no JSON\n", "invalid_json_line"),
        (b"\n", "invalid_json_line"),
        (b"  \n", "invalid_json_line"),
        (b"\xff\xfe\n", "invalid_json_line"),
        (line().replace(b'"x"', b'"\xff"'), "invalid_json_line"),
        (line().replace(b'"x"', b'"\\ud800"'), "invalid_json_line"),
        (line().replace(b'"x"', b"NaN"), "invalid_json_line"),
        (line().replace(b'"x"', b"1e999"), "invalid_value"),
        (b"\xef\xbb\xbf" + line(), "invalid_json_line"),
        (b'{"a":' * 250 + b"1" + b"}" * 250 + b"\n", "line_too_long"),
        (b"[" * 140 + b"]" * 140 + b"\n", "invalid_value"),
        (b"[]\n", "invalid_value"),
        (b"null\n", "invalid_value"),
        (line("b", body=[]), "invalid_value"),
        (line("b", body=None), "invalid_value"),
        (line("b", method="GET"), "invalid_value"),
        (line("b", more=1), "unsupported_parameter"),
        (line("b", url="/v1/embeddings"), "invalid_url"),
        (line("b", url="http://elsewhere/v1/classify"), "invalid_url"),
        (line("b", custom_id=7), "invalid_value"),
        (line("b", custom_id=""), "invalid_value"),
        (line("b", custom_id="x" * 600), "line_too_long"),
        (line("b", custom_id="a\x00b"), "invalid_value"),
        (line("b", custom_id="a\nb"), "invalid_value"),
        (line("a"), "duplicate_custom_id"),
        (line("b" * 300), "line_too_long"),
    ],
)
def test_a_line_that_is_none_is_named(path: Path, bad: bytes, code: str) -> None:
    path.write_bytes(line("a") + bad + line("z"))
    checked = check_lines(path, URL, ARGS, block_lines=10)
    assert [(error.code, error.line) for error in checked.errors] == [(code, 2)]
    assert checked.errors[0].message.endswith("."), checked.errors


def test_a_deep_line_is_no_deeper_than_the_parser(path: Path) -> None:
    deep = b'{"custom_id":"b","method":"POST","url":"/v1/classify","body":{"input":%s}}\n'
    args = BatchArgs()
    for depth, num_errors in ((100, 0), (100_000, 1)):
        path.write_bytes(deep % (b"[" * depth + b"]" * depth))
        checked = check_lines(path, URL, args, block_lines=10)
        assert len(checked.errors) == num_errors
        assert all(error.code == "invalid_json_line" for error in checked.errors)


def test_a_null_character_within_a_body_is_the_routes_matter(path: Path) -> None:
    path.write_bytes(line("b", body={"input": "a\x00b"}))
    checked = check_lines(path, URL, ARGS, block_lines=10)
    assert not checked.errors
    (one,) = read_block(path, checked.blocks[0])
    assert one.content() == b'{"input":"a\\u0000b"}'


def test_a_file_has_lines_and_not_too_many(path: Path) -> None:
    path.write_bytes(b"")
    assert [e.code for e in check_lines(path, URL, ARGS, block_lines=1).errors] == ["empty_file"]
    path.write_bytes(b"".join(line(str(number)) for number in range(6)))
    assert check_lines(path, URL, ARGS, block_lines=1).num_lines == 6
    path.write_bytes(b"".join(line(str(number)) for number in range(9)))
    (error,) = check_lines(path, URL, ARGS, block_lines=1).errors
    assert (error.code, error.line) == ("too_many_lines", 7)


def test_no_more_errors_are_told_than_anyone_reads(path: Path) -> None:
    path.write_bytes(b"nothing\n" * 1000)
    checked = check_lines(path, URL, BatchArgs(), block_lines=1)
    assert [error.line for error in checked.errors] == list(range(1, 51))


def test_a_line_that_never_ends_is_not_read_to_its_end(path: Path) -> None:
    path.write_bytes(line("a"))
    with path.open("ab") as file:
        file.truncate(1 << 32)  # a hole, which takes no room
    (error,) = check_lines(path, URL, ARGS, block_lines=1).errors
    assert (error.code, error.line) == ("line_too_long", 2)
