"""What customers think of answers, beside the knowledge in a table of its own.

An answer is remembered in memory for a while, so that a verdict on it is stored with its question,
without addresses and long numbers. A verdict on an answer that this process does not remember is
stored without.
"""

import asyncio
import re
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import lancedb
import pyarrow as pa

from serve.assistant.language import clean
from serve.assistant.rows import key_field
from serve.assistant.schema import AssistantAnswer, FeedbackRequest

__all__ = ["Feedback", "mask"]

_TABLE = "feedback"
_REMEMBERED = 10_000
_WRITES_BETWEEN_MAINTENANCE = 64
_COLUMNS = pa.schema(
    [key_field("answer_id")]
    + [
        pa.field(name, pa.string(), nullable=False)
        for name in ("verdict", "reason", "given", "question", "kind", "answer")
    ]
    + [pa.field("document_ids", pa.list_(pa.string()), nullable=False)]
)
_FORGOTTEN: dict[str, object] = {"question": "", "kind": "", "answer": "", "document_ids": []}
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_LONG_NUMBER = re.compile(r"\d(?:[ ./-]?\d){5,}")


class Feedback:
    """Verdicts by answer."""

    def __init__(self) -> None:
        """See `open`."""
        self._answers: OrderedDict[str, dict[str, object]] = OrderedDict()
        self._num_writes = 0
        self._writing = asyncio.Lock()

    async def open(self, connection: lancedb.AsyncConnection) -> None:
        """Opens the table, or makes it."""
        self._table = await connection.create_table(_TABLE, schema=_COLUMNS, exist_ok=True)

    def close(self) -> None:
        """Lets go of the files."""
        self._table.close()

    def remember(self, question: str, answer: AssistantAnswer) -> None:
        """Keeps an answer so that a verdict on it can be understood; the oldest is forgotten."""
        self._answers[answer.id] = {
            "question": mask(question),
            "kind": answer.kind,
            "answer": answer.answer,
            "document_ids": [citation.document_id for citation in answer.citations],
        }
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)

    async def record(self, request: FeedbackRequest) -> None:
        """Stores a verdict; one that was stored for the answer before is replaced."""
        row = {
            "answer_id": request.answer_id,
            "verdict": request.verdict,
            "reason": mask(request.reason),
            "given": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._answers.get(request.answer_id, _FORGOTTEN),
        }
        merge = self._table.merge_insert("answer_id")
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        async with self._writing:
            await merge.execute(pa.Table.from_pylist([row], schema=_COLUMNS))
            self._num_writes += 1
            if self._num_writes % _WRITES_BETWEEN_MAINTENANCE == 0:
                await self._table.optimize()

    async def all(self) -> list[dict[str, Any]]:
        """Every verdict, for an export."""
        rows: list[dict[str, Any]] = (await self._table.to_arrow()).to_pylist()
        return rows


def mask(text: str) -> str:
    """``text`` without e-mail addresses, numbers of six digits and more, and what is invisible."""
    return _LONG_NUMBER.sub("[number]", _ADDRESS.sub("[address]", clean(text)))
