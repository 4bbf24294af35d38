"""The lines of an input file: read one at a time, checked before any of them is answered.

A file is cut into blocks of lines, which are places in the file; what is done with a block needs
no other part of it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import from_json

from serve.batches.args import BatchArgs
from serve.batches.schema import BatchError
from serve.errors import explain_validation

__all__ = ["Block", "Checked", "InputLine", "check_lines", "read_block"]

_BLOCK_BYTES = 8 << 20
"""A block ends with the line that reaches this, since the block is held in memory."""
_MOST_ERRORS = 50
"""Errors that are shown of a file; reading ends with the last."""

_CustomId = Annotated[
    str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class InputLine(BaseModel):
    """One request of a batch."""

    model_config = ConfigDict(extra="forbid")

    custom_id: _CustomId
    method: Literal["POST"]
    url: str
    body: dict[str, Any]

    def content(self) -> bytes:
        """The body of the request; ValueError for a number that JSON does not have."""
        # as short as can be, since it is held to the limit on bodies
        text = json.dumps(self.body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a file that follow each other."""

    index: int
    start: int
    """Place of its first byte."""
    end: int
    """Place after its last byte."""
    num_lines: int


@dataclass(slots=True)
class Checked:
    """What was found in a file."""

    blocks: list[Block] = field(default_factory=list)
    num_lines: int = 0
    errors: list[BatchError] = field(default_factory=list)
    """Empty where the file can be answered."""


def check_lines(path: Path, endpoint: str, args: BatchArgs, *, block_lines: int) -> Checked:
    """The blocks of a file, or what is wrong with its lines.

    Memory holds one line at a time, and the custom ids.
    """
    found = Checked()
    known: dict[str, int] = {}
    start = place = 0
    in_block = 0
    for number, line in enumerate(_lines(path, args.max_line_bytes), start=1):
        if number > args.max_lines:
            found.errors.append(_too_many(args.max_lines))
        elif problem := _problem(line, number, endpoint, known, args.max_line_bytes):
            found.errors.append(problem)
        if len(found.errors) >= _MOST_ERRORS or number > args.max_lines:
            return found
        place += len(line)
        in_block += 1
        if in_block == block_lines or place - start >= _BLOCK_BYTES:
            found.blocks.append(Block(len(found.blocks), start, place, in_block))
            start, in_block = place, 0
        found.num_lines = number
    if in_block:
        found.blocks.append(Block(len(found.blocks), start, place, in_block))
    if not found.num_lines:
        found.errors.append(BatchError(code="empty_file", message="the input file has no lines."))
    return found


def read_block(path: Path, block: Block) -> list[InputLine]:
    """The requests of a block of a file that was checked."""
    with path.open("rb") as file:
        file.seek(block.start)
        content = file.read(block.end - block.start)
    # not splitlines, which also cuts at other signs
    lines = content.removesuffix(b"\n").split(b"\n")
    return [InputLine.model_validate(from_json(line)) for line in lines]


def _lines(path: Path, max_line_bytes: int) -> Iterator[bytes]:
    """Every line with its end; of one that is too long the beginning, and then no more."""
    with path.open("rb") as file:
        while line := file.readline(max_line_bytes + 2):
            yield line
            if len(line.rstrip(b"\r\n")) > max_line_bytes:
                return


def _problem(
    line: bytes, number: int, endpoint: str, known: dict[str, int], max_line_bytes: int
) -> BatchError | None:
    """What is wrong with a line; a good one's id is noted as known."""
    if len(line.rstrip(b"\r\n")) > max_line_bytes:
        message = f"the line is longer than {max_line_bytes} bytes. What follows was not read."
        return BatchError(code="line_too_long", message=message, line=number)
    try:
        tree = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        message = f"the line is not JSON in UTF-8: {error}."
        return BatchError(code="invalid_json_line", message=message, line=number)
    try:
        request = InputLine.model_validate(tree)
        request.content()
    except ValidationError as error:
        problem = explain_validation(error)
        message = problem.message.replace("the body", "the line", 1)
        return BatchError(code=problem.code, message=message, param=problem.param, line=number)
    except ValueError as error:
        message = f"the body holds a number that JSON does not have: {error}."
        return BatchError(code="invalid_value", message=message, param="body", line=number)
    if request.url != endpoint:
        message = f"url is '{request.url[:80]}', and the batch is for '{endpoint}'."
        return BatchError(code="invalid_url", message=message, param="url", line=number)
    if (first := known.setdefault(request.custom_id, number)) != number:
        message = f"custom_id '{request.custom_id[:80]}' stands in line {first} already."
        return BatchError(
            code="duplicate_custom_id", message=message, param="custom_id", line=number
        )
    return None


def _too_many(max_lines: int) -> BatchError:
    message = f"the file has more than {max_lines} lines. Make several batches of it."
    return BatchError(code="too_many_lines", message=message, line=max_lines + 1)
