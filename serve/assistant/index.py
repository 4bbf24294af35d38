"""The knowledge on disk or in object storage: one LanceDB table per embedding model.

A document is replaced in one commit, so that a crash leaves the old one or the new one. New rows
are found at once, by vectors and by words: LanceDB searches what its indexes do not cover yet by
scanning it, and `KnowledgeIndex.write` lets the indexes catch up now and then. Vectors are
compared one by one until there are 20,000; then passages get an index (inverted lists, 8 bits a
number), while phrasings of approved answers are still compared exactly. Everything runs on
LanceDB's own threads; the event loop only awaits it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, Bitmap, BTree, IvfSq
from lancedb.query import ColumnOrdering
from numpy.typing import NDArray

from ray_sft.core import ServeError
from serve.assistant.documents import Document
from serve.assistant.language import FULL_TEXT
from serve.assistant.rows import Prepared, schema, to_document, to_rows
from serve.assistant.schema import KnowledgeEntry, KnowledgeText

__all__ = ["KnowledgeIndex"]

logger = logging.getLogger(__name__)

_PREFIX = "knowledge-"
_WRITES_BETWEEN_MAINTENANCE = 32
_KEPT = timedelta(hours=1)
"""How long an old version stays for readers in other processes. What was deleted or replaced is
found no more at once; it leaves the disk an hour after its file was rewritten, which happens when
a tenth of the file is such."""
_READ_AT_ONCE = 64
_APPROXIMATE_FROM = 20_000
"""Rows from which passages are searched through an index. 100,000 vectors of 384 numbers on two
cores: 175 ms by comparing all of them, 9 ms through it, built in 4 s, the same 50 hits."""

_ENTRY_COLUMNS = [
    "document_id",
    "kind",
    "title",
    "language",
    "source",
    "updated",
    "questions",
    "end",
    "num_passages",
]


class KnowledgeIndex:
    """Documents by id, and their passages by meaning and by words."""

    def __init__(self, uri: str, *, fingerprint: str, dim: int) -> None:
        """For vectors of ``dim`` numbers from the model of ``fingerprint``; see `open`."""
        self.uri = uri
        self._fingerprint = fingerprint
        self._dim = dim
        self._name = _PREFIX + fingerprint[:16]
        self._num_writes = 0
        self._writing = asyncio.Lock()

    async def open(self, *, with_foreign: bool = False) -> None:
        """Opens the table of the model, or makes it.

        Raises:
            ServeError: the knowledge was indexed with another model, and ``with_foreign`` does
                not say that the caller takes it over (`foreign_documents`, `drop_foreign`).
        """
        # zero: a change by another process is seen by the next query
        self.connection = await lancedb.connect_async(
            self.uri, read_consistency_interval=timedelta(0)
        )
        names = await _table_names(self.connection)
        self._foreign = [n for n in names if n.startswith(_PREFIX) and n != self._name]
        if self._foreign and not with_foreign:
            raise self._other_model()
        if self._name in names:
            self.table = await self.connection.open_table(self._name)
        else:
            self.table = await self.connection.create_table(
                self._name, schema=schema(self._dim), exist_ok=True
            )
        words = FTS(with_position=False, **FULL_TEXT)
        await self._make_indexes({"search": words, "document_id": BTree(), "scope": Bitmap()})
        await self.maintain()

    def close(self) -> None:
        """Lets go of the files."""
        self.table.close()
        self.connection.close()

    async def write(self, documents: Sequence[tuple[Prepared, NDArray[np.float32]]]) -> None:
        """Puts documents with the vectors of their texts in the place of what had their ids."""
        rows = await asyncio.to_thread(self._rows_of, documents)
        identities = [prepared.document.id for prepared, _ in documents]
        async with self._writing:
            await (
                self.table.merge_insert("key")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(_is_one_of(identities))
                # the missing vector of a whole document counts as bad; `to_rows` checks the rest
                .execute(rows, on_bad_vectors="null")
            )
            await self._maintain_sometimes()

    async def delete(self, document_id: str) -> bool:
        """Removes a document; whether there was one."""
        async with self._writing:
            result = await self.table.delete(_is_one_of([document_id]))
            if result.num_deleted_rows:
                await self._maintain_sometimes()
        return bool(result.num_deleted_rows)

    async def fingerprints(self, document_ids: Sequence[str]) -> dict[str, str]:
        """The fingerprints of those documents that are there."""
        if not document_ids:
            return {}
        predicate = f"role = 'document' AND {_is_one_of(document_ids)}"
        rows = await self._rows(predicate, ["document_id", "fingerprint"], limit=len(document_ids))
        return {row["document_id"]: row["fingerprint"] for row in rows}

    async def entries(self, *, after: str, limit: int) -> list[KnowledgeEntry]:
        """At most ``limit`` documents in the order of their ids, beginning behind ``after``."""
        predicate = f"role = 'document' AND document_id > {_quoted(after)}"
        rows = await self._rows(predicate, _ENTRY_COLUMNS, limit=limit)
        return [KnowledgeEntry.model_validate(_entry(row)) for row in rows]

    async def get(self, document_id: str) -> KnowledgeText | None:
        """A whole document, or None."""
        predicate = f"role = 'document' AND {_is_one_of([document_id])}"
        rows = await self._rows(predicate, [*_ENTRY_COLUMNS, "text"], limit=1)
        return KnowledgeText.model_validate(_entry(rows[0])) if rows else None

    async def foreign_documents(self) -> AsyncIterator[list[Document]]:
        """The documents of other models' tables, some at a time."""
        for name in self._foreign:
            table = await self.connection.open_table(name)
            after = ""
            while rows := await _read_documents(table, after):
                yield [to_document(row) for row in rows]
                after = rows[-1]["document_id"]
            table.close()

    async def drop_foreign(self) -> None:
        """Removes other models' tables."""
        for name in self._foreign:
            await self.connection.drop_table(name)
        self._foreign = []

    async def maintain(self) -> None:
        """Joins small files, lets the indexes catch up, removes old versions."""
        try:
            await self.table.optimize(cleanup_older_than=_KEPT)
            if await self.table.count_rows() >= _APPROXIMATE_FROM:
                await self._make_indexes({"vector": IvfSq(distance_type="cosine")})
        except RuntimeError as error:  # another process was at it: nothing is lost but tidiness
            logger.warning("maintenance of '%s' was put off: %s", self.uri, error)

    def _rows_of(self, documents: Sequence[tuple[Prepared, NDArray[np.float32]]]) -> pa.Table:
        updated = datetime.now(UTC).isoformat(timespec="seconds")
        columns = schema(self._dim)
        tables = [
            to_rows(prepared, vectors, updated=updated, columns=columns)
            for prepared, vectors in documents
        ]
        # what is searched together lies together: scanning it is twice as fast
        return pa.concat_tables(tables).sort_by("scope").combine_chunks()

    async def _maintain_sometimes(self) -> None:
        self._num_writes += 1
        if self._num_writes % _WRITES_BETWEEN_MAINTENANCE == 0:
            await self.maintain()

    async def _make_indexes(self, wanted: Mapping[str, object]) -> None:
        """An index on every column of ``wanted`` that has none."""
        present = {column for index in await self.table.list_indices() for column in index.columns}
        for column, config in wanted.items():
            if column not in present:
                await self.table.create_index(column, config=config)

    async def _rows(
        self, predicate: str, columns: Sequence[str], *, limit: int
    ) -> list[dict[str, Any]]:
        query = self.table.query().where(predicate).select(list(columns)).limit(limit)
        found = await query.order_by([ColumnOrdering(column_name="document_id")]).to_arrow()
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def _other_model(self) -> ServeError:
        others = ", ".join(name.removeprefix(_PREFIX) for name in self._foreign)
        return ServeError(
            f"knowledge '{self.uri}' was indexed with another embedding model ({others}) than "
            f"this service has ({self._fingerprint[:16]}); vectors of two models cannot be "
            "compared. Start once with 'rebuild: true' to embed every document again with this "
            "model, serve the model that it was indexed with, or name another folder under "
            "'knowledge'."
        )


async def _table_names(connection: lancedb.AsyncConnection) -> list[str]:
    names: list[str] = []
    page = await connection.list_tables()
    names.extend(page.tables)
    while page.page_token:
        page = await connection.list_tables(page_token=page.page_token)
        names.extend(page.tables)
    return names


async def _read_documents(table: lancedb.AsyncTable, after: str) -> list[dict[str, Any]]:
    query = table.query().where(f"role = 'document' AND document_id > {_quoted(after)}")
    query = query.order_by([ColumnOrdering(column_name="document_id")]).limit(_READ_AT_ONCE)
    rows: list[dict[str, Any]] = (await query.to_arrow()).to_pylist()
    return rows


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"id": row["document_id"], "num_characters": row["end"]}


def _is_one_of(document_ids: Sequence[str]) -> str:
    return f"document_id IN ({', '.join(_quoted(name) for name in document_ids)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
