"""What an endpoint has answered, and what that has cost: a file that all workers share.

Before a request goes out, the most that it can cost is put down, and what it did cost takes that
place; so the sum stays below its cap however many ask at a time. What was put down by a worker
that died in between counts as spent.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy
from sqlalchemy import Column, Float, MetaData, String, Table, Text, func, select
from sqlalchemy.exc import SQLAlchemyError

from ray_sft.core import DataError, reason_of

__all__ = ["Ledger", "key_of"]

_LOCK_WAIT_S = 60
_ANSWERS = Table(
    "answers",
    MetaData(),
    Column("key", String(64), primary_key=True),
    Column("answer", Text, nullable=True),  # null while it is awaited
    Column("cost", Float, nullable=False),
)


def key_of(parts: Sequence[object]) -> str:
    """Under which an answer is kept: a hash of all that it depends on."""
    return hashlib.sha256(json.dumps(list(parts), ensure_ascii=False).encode()).hexdigest()


class Ledger:
    """Answers by key with what each has cost."""

    def __init__(self, path: Path, max_cost: float) -> None:
        """In the SQLite file ``path``, which is made; no more than ``max_cost`` is spent.

        Raises:
            DataError: the file cannot be made or read.
        """
        self._path = path
        self._max_cost = max_cost
        self._engine = sqlalchemy.create_engine(
            f"sqlite:///{path}", connect_args={"timeout": _LOCK_WAIT_S}
        )
        sqlalchemy.event.listen(self._engine, "connect", _without_implicit_transactions)
        sqlalchemy.event.listen(self._engine, "begin", _lock_at_once)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._engine.begin() as connection:
                _ANSWERS.create(connection, checkfirst=True)
        except (SQLAlchemyError, OSError) as error:
            raise DataError(self._unusable(error)) from None

    def find(self, key: str, most: float) -> str | None:
        """The answer that is kept, or None after ``most`` was put down for asking.

        Raises:
            DataError: asking could cost more than is left, or the file cannot be used.
        """
        try:
            with self._engine.begin() as connection:
                found = connection.execute(
                    select(_ANSWERS.c.answer).where(_ANSWERS.c.key == key)
                ).scalar_one_or_none()
                if found is not None:
                    return str(found)
                others = select(func.sum(_ANSWERS.c.cost)).where(_ANSWERS.c.key != key)
                spent = float(connection.execute(others).scalar() or 0.0)
                if spent + most > self._max_cost:
                    raise DataError(
                        f"augment: paraphrase.max_cost is {self._max_cost:g}; {spent:.4g} of it is "
                        f"spent, and the next answer could cost {most:.2g}. Raise max_cost and run "
                        f"again: the answers so far are kept in '{self._path}' and cost nothing."
                    )
                connection.execute(
                    _ANSWERS.insert().prefix_with("OR REPLACE").values(key=key, cost=most)
                )
        except SQLAlchemyError as error:
            raise DataError(self._unusable(error)) from None
        return None

    def keep(self, key: str, answer: str, cost: float) -> None:
        """Puts down an answer and what it has cost.

        Raises:
            DataError: the file cannot be written.
        """
        found = _ANSWERS.update().where(_ANSWERS.c.key == key)
        self._change(found.values(answer=answer, cost=cost))

    def give_up(self, key: str) -> None:
        """Takes back what was put down for a request that has cost nothing."""
        self._change(_ANSWERS.delete().where(_ANSWERS.c.key == key))

    def _change(self, statement: sqlalchemy.Update | sqlalchemy.Delete) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(statement)
        except SQLAlchemyError as error:
            raise DataError(self._unusable(error)) from None

    def _unusable(self, error: Exception) -> str:
        return (
            f"augment: paraphrase.cache '{self._path}' cannot be used: {reason_of(error)}. Name a "
            "file in a folder that can be written."
        )


def _without_implicit_transactions(connection: object, record: object) -> None:
    del record
    connection.isolation_level = None  # type: ignore[attr-defined]  # sqlite3's own


def _lock_at_once(connection: sqlalchemy.Connection) -> None:
    """A transaction that reads before it writes must not begin twice at a time."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
