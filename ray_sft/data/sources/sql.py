"""Tables and queries of a database, read in ranges of a key, each range by a reader of its own."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, Self

import sqlalchemy
from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection, Select, TableClause, TextClause
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ray_sft.core import DataError, reason_of
from ray_sft.data.sources.base import RawRow, Source

__all__ = ["Sql"]

_FETCH_ROWS = 2000
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Sql(Source):
    """Rows of a table or a query, through SQLAlchemy (SQLite, PostgreSQL, and others).

    The rows come in the order of ``key``, a column whose values differ. Where it holds whole
    numbers, ``ranges`` readers share the rows between its least and its greatest value.
    """

    source: Literal["sql"] = "sql"
    url: str = Field(min_length=1)
    """The database, as SQLAlchemy writes it: ``sqlite:///reviews.db`` or
    ``postgresql+psycopg://user:${DB_PASSWORD}@host/shop``. A password stands in an environment
    variable, named in ``${...}``, since recipes are kept with what is made from them."""
    table: str = ""
    """The table, or a view; with its schema as ``schema.table``."""
    query: str = ""
    """A SELECT statement instead of a table."""
    key: str = Field(min_length=1)
    """Column that orders the rows; its values must differ."""
    ranges: int = Field(default=8, ge=1, le=10_000)
    """How many readers share a key of whole numbers."""

    @field_validator("url")
    @classmethod
    def _holds_no_password(cls, url: str) -> str:
        try:
            password = sqlalchemy.make_url(url).password
        except ArgumentError as error:
            raise ValueError(f"url cannot be read: {error}") from None
        if password and not _VARIABLE.fullmatch(str(password)):
            raise ValueError(
                "url holds a password. Put it into an environment variable and write "
                "${NAME_OF_THE_VARIABLE} in its place"
            )
        return url

    @model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if bool(self.table) == bool(self.query):
            raise ValueError("give either a table or a query")
        return self

    @property
    def title(self) -> str:
        """See `Source.title`."""
        return self.table or f"query on {self._shown_url()}"

    def parts(self) -> list[str]:
        """Bounds of the key, ``first:last``, both included; ``:`` for everything.

        Raises:
            DataError: the database or the table cannot be read, or the table is empty.
        """
        with self._connection() as connection:
            low, high, count, keyed = connection.execute(self._extent()).one()
        if not count:
            raise DataError(f"'{self.title}' has no rows.")
        if keyed < count:
            raise DataError(
                f"the key '{self.key}' of '{self.title}' has {keyed} values for {count} rows. "
                "Name a column whose values differ and are never null."
            )
        if not _is_whole(low) or not _is_whole(high):
            return [":"]
        low, high = int(low), int(high)
        num = min(self.ranges, high - low + 1)
        ends = [low + (high - low + 1) * number // num for number in range(num + 1)]
        return [f"{first}:{after - 1}" for first, after in pairwise(ends)]

    def fingerprint(self) -> str:
        """SHA-256 over the settings, the number of rows and the bounds of the key.

        A row that is changed in place is not noticed; a key that grows with each change (a time
        of change, say) makes it so.
        """
        with self._connection() as connection:
            extent = [str(value) for value in connection.execute(self._extent()).one()]
        return hashlib.sha256("|".join([self.model_dump_json(), *extent]).encode()).hexdigest()

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        del part
        with self._connection() as connection:
            return list(connection.execute(self._rows().limit(0)).keys())

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; no more than some thousand rows are held at a time."""
        first, _, last = part.partition(":")
        statement = self._rows().order_by(self._key)
        if first:
            statement = statement.where(self._key.between(int(first), int(last)))
        with self._connection() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=_FETCH_ROWS)
            for row in streamed.execute(statement).mappings():
                yield {name: _plain(value) for name, value in row.items()}

    @property
    def _key(self) -> Any:
        return sqlalchemy.column(self.key)

    def _from(self) -> TableClause | Any:
        if self.table:
            schema, _, name = self.table.rpartition(".")
            return sqlalchemy.table(name, schema=schema or None)
        statement: TextClause = sqlalchemy.text(self.query.strip().rstrip(";"))
        return statement.columns(self._key).subquery("wanted")

    def _rows(self) -> Select[Any]:
        return sqlalchemy.select(sqlalchemy.text("*")).select_from(self._from())

    def _extent(self) -> Select[Any]:
        functions = sqlalchemy.func
        return sqlalchemy.select(
            functions.min(self._key),
            functions.max(self._key),
            functions.count(),
            functions.count(self._key.distinct()),
        ).select_from(self._from())

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            engine = sqlalchemy.create_engine(
                _with_password(self.url), poolclass=sqlalchemy.NullPool
            )
        except (NoSuchModuleError, ImportError) as error:
            raise DataError(f"no driver for '{self._shown_url()}': {error}") from None
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(sqlalchemy.text("SET TRANSACTION READ ONLY"))
                yield connection
        except SQLAlchemyError as error:
            reason = reason_of(getattr(error, "orig", None) or error)
            raise DataError(
                f"cannot read '{self.title}' of {self._shown_url()}: {reason.rstrip('.')}. Check "
                "the address, that the database runs, and that it has the table and the key; then "
                "try again."
            ) from None
        finally:
            engine.dispose()

    def _shown_url(self) -> str:
        return sqlalchemy.make_url(self.url).render_as_string(hide_password=True)


def _with_password(url: str) -> sqlalchemy.URL:
    parsed = sqlalchemy.make_url(url)
    variable = _VARIABLE.fullmatch(str(parsed.password or ""))
    if variable is None:
        return parsed
    password = os.environ.get(variable[1])
    if password is None:
        raise DataError(
            f"the environment variable {variable[1]}, which the source's url names, is not set."
        )
    return parsed.set(password=password)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, Decimal) and value == int(value))


def _plain(value: Any) -> Any:
    """A value as a row holds it: numbers of fixed precision as floats, bytes as they are."""
    return float(value) if isinstance(value, Decimal) else value
