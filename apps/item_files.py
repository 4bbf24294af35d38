"""Items for the monitor as people have them: a file or a text of JSON lines or of CSV."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

__all__ = ["NewItem", "ReadItems", "market_sample", "read_items"]

_MOST_ITEMS = 50_000
_NUM_PROBLEMS = 3
"""How many problems are told; the others are counted."""


class NewItem(BaseModel):
    """An item as it is sent to the service."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    time: datetime
    text: str = Field(min_length=1)
    topics: list[str] = []
    source: str | None = None

    @field_validator("id", "text", mode="before")
    @classmethod
    def _stripped(cls, value: object) -> object:
        return str(value).strip() if isinstance(value, str | int) else value

    @field_validator("time")
    @classmethod
    def _in_utc(cls, time: datetime) -> datetime:
        """In UTC; a time without an offset is taken for UTC."""
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)

    @field_validator("topics", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A list, or a text with ``;`` or ``|`` between topics, as in a CSV file."""
        if isinstance(value, str):
            parts = value.replace("|", ";").split(";")
            return [part.strip() for part in parts if part.strip()]
        return value

    def tree(self) -> dict[str, object]:
        """The item as JSON."""
        tree: dict[str, object] = {
            "id": self.id,
            "time": self.time.isoformat(),
            "text": self.text,
        }
        if self.topics:
            tree["topics"] = self.topics
        if self.source:
            tree["source"] = self.source
        return tree


@dataclass(frozen=True, slots=True)
class ReadItems:
    """What was found in a text, in the order of time."""

    items: tuple[NewItem, ...] = ()
    num_left_out: int = 0
    problems: tuple[str, ...] = ()
    """Why the first few of them were left out, each with its line."""


def read_items(text: str) -> ReadItems:
    """The items of a text, which is JSON lines where it begins with a brace, else CSV.

    What cannot be read is left out and counted. A column ``topic`` is taken for ``topics``.
    """
    text = text.lstrip("\ufeff").strip()
    rows = _json_rows(text) if text.startswith("{") else _csv_rows(text)
    items: list[NewItem] = []
    problems: list[str] = []
    for line, row in rows:
        if len(items) == _MOST_ITEMS:
            problems.append(f"line {line}: more than {_MOST_ITEMS} items; split the file.")
            break
        try:
            items.append(_item(row))
        except ValidationError as error:
            problems.append(f"line {line}: {_explain(error)}")
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    items.sort(key=lambda item: item.time)
    return ReadItems(tuple(items), len(problems), tuple(problems[:_NUM_PROBLEMS]))


def market_sample() -> ReadItems:
    """News and posts made for this project: sixty days of six topics, with three bad spells."""
    path = Path(__file__).parent / "assets" / "market_sample.csv"
    return read_items(path.read_text(encoding="utf-8"))


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _csv_rows(text: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if name and value}


def _item(row: object) -> NewItem:
    tree = json.loads(row) if isinstance(row, str) else row
    if isinstance(tree, dict) and "topic" in tree and "topics" not in tree:
        tree = {**tree, "topics": tree["topic"]}
    return NewItem.model_validate(tree)


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"'{where}': {problem['msg']}" if where else problem["msg"]
