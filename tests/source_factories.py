"""A source of every kind over the same rows, for the laws in tests/contract.

One function for each member of `AnySource`, named in `SOURCES`. A member without one fails the
contract tests by its name.
"""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import lancedb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy

from ray_sft.data import Conll, Csv, Hub, Jsonl, Parquet, Source, Text
from ray_sft.data.sources import BadRow, LanceDb, ReadRow, Several, Sql
from ray_sft.tasks import MaskedLanguageModel, Task, TokenClassification

__all__ = ["SOURCES", "Said", "SourceCase", "cut", "said_by"]

Said: TypeAlias = "str | None"
"""What a row says: words with single blanks between them; None for a row that is of no use."""

TEXT_TASK = MaskedLanguageModel(max_length=64)
LONGEST_LINE = 1000
SCHEMA = pa.schema({"id": pa.int64(), "said": pa.string()})


@dataclass(frozen=True, slots=True)
class SourceCase:
    """How rows are written down for a kind of source, and what they are there."""

    write: Callable[[Path, Sequence[Said], int], Source]
    """The source that reads some rows from a folder, where they stand in so many parts."""
    said: str = "said"
    """What a row says, as an expression over the source's own columns."""
    has_parts: bool = True
    """Whether each part has a reader of its own."""
    task: Task = TEXT_TASK
    """A task that reads its rows."""


def cut(rows: Sequence[Said], num_parts: int) -> list[Sequence[Said]]:
    """The rows in parts of the same size, give or take one."""
    ends = [len(rows) * number // num_parts for number in range(num_parts + 1)]
    return [rows[start:end] for start, end in pairwise(ends)]


def said_by(row: ReadRow) -> Said:
    """What a row says that was read under the names of the task."""
    if isinstance(row, BadRow):
        return None
    assert isinstance(row, dict)
    return " ".join(row["tokens"]) if "tokens" in row else row["text"]


def _records(rows: Sequence[Said]) -> list[dict[str, Any]]:
    return [{"id": number, "said": text} for number, text in enumerate(rows)]


def _table(rows: Sequence[Said]) -> pa.Table:
    return pa.Table.from_pylist(_records(rows), SCHEMA)


def _csv(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        with (folder / f"{number}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "said"])
            writer.writerows(
                [index, *([] if text is None else [text])] for index, text in enumerate(part)
            )
    return Csv(path=str(folder), columns={"text": "said"})


def _jsonl(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        lines = [json.dumps(row) if row["said"] else "{" for row in _records(part)]
        content = "\n".join(lines).encode()
        if number % 2:
            (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress(content))
        else:
            (folder / f"{number}.jsonl").write_bytes(content)
    return Jsonl(path=str(folder), columns={"text": "said"})


def _parquet(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        pq.write_table(_table(part), folder / f"{number}.parquet")
    return Parquet(path=str(folder), columns={"text": "said"})


def _text(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        paragraphs = ["x" * 2 * LONGEST_LINE if text is None else text for text in part]
        name = f"{number}.md" if number % 2 else f"{number}.txt"
        (folder / name).write_text("\n\n".join(paragraphs), encoding="utf-8")
    return Text(path=str(folder), max_line=LONGEST_LINE)


def _conll(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        sentences = ["alone\n" if text is None else _tagged(text) for text in part]
        (folder / f"{number}.conll").write_text("\n".join(sentences), encoding="utf-8")
    return Conll(path=str(folder))


def _tagged(text: str) -> str:
    words = text.split()
    return "".join(f"{word}\t{'B-number' if word.isdigit() else 'O'}\n" for word in words)


def _hub(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    for number, part in enumerate(cut(rows, num_parts)):
        pq.write_table(_table(part), folder / f"train-{number:05}-of-{num_parts:05}.parquet")
    return Hub(path=str(folder), columns={"text": "said"})


def _sql(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    url = f"sqlite:///{folder}/rows.db"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS rows"))
        connection.execute(sqlalchemy.text("CREATE TABLE rows (id INTEGER, said TEXT)"))
        insert = sqlalchemy.text("INSERT INTO rows VALUES (:id, :said)")
        connection.execute(insert, _records(rows))
    engine.dispose()
    return Sql(url=url, table="rows", key="id", ranges=num_parts, columns={"text": "said"})


def _lancedb(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    first, *others = cut(rows, num_parts)
    table = lancedb.connect(folder).create_table("rows", _table(first), mode="overwrite")
    for part in others:
        table.add(_table(part))
    return LanceDb(path=str(folder), table="rows", columns={"text": "said"})


def _several(folder: Path, rows: Sequence[Said], num_parts: int) -> Source:
    sources = []
    for number, part in enumerate(cut(rows, num_parts)):
        (folder / str(number)).mkdir(exist_ok=True)
        write = _parquet if number % 2 else _csv
        sources.append(write(folder / str(number), part, 1))
    return Several(sources=tuple(sources))


SOURCES: dict[type[Source], SourceCase] = {
    Csv: SourceCase(_csv),
    Jsonl: SourceCase(_jsonl),
    Parquet: SourceCase(_parquet),
    Text: SourceCase(_text, said="text"),
    Conll: SourceCase(
        _conll, said="' '.join(tokens)", task=TokenClassification(labels=("number",))
    ),
    Hub: SourceCase(_hub, has_parts=False),
    Sql: SourceCase(_sql),
    LanceDb: SourceCase(_lancedb, has_parts=False),
    Several: SourceCase(_several),
}
