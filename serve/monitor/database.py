"""Connections to SQLite or PostgreSQL, with one writer at a time and commits that last.

Writers are serialised, by SQLite's own lock or by an advisory lock of PostgreSQL, since an alert
depends on all items of its topic: two writers that do not see each other would both miss it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError

from ray_sft.core import ServeError
from serve.databases import make_folder

__all__ = ["Database", "StoreUnavailableError", "insert_new"]

_ADVISORY_LOCK = 0x5261795366744D6F
_LOCK_WAIT_S = 30


class StoreUnavailableError(ServeError):
    """The database does not answer; nothing of the transaction is kept."""


class Database:
    """An engine that knows how to begin a transaction."""

    def __init__(self, url: str) -> None:
        """Connects at the first transaction.

        Raises:
            ServeError: no URL of a database that is supported.
        """
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        is_sqlite = parsed.drivername == "sqlite"
        self._engine = _sqlite(parsed) if is_sqlite else create_engine(parsed, pool_pre_ping=True)
        # two views of one pool
        self._writer = self._engine.execution_options(is_writer=True)
        self._reader = (
            self._engine
            if is_sqlite
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self._begin(is_writer=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction without other writers, committed at the end.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self._begin(is_writer=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def _begin(self, *, is_writer: bool) -> Iterator[Connection]:
        engine = self._writer if is_writer else self._reader
        try:
            with engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailableError(
                f"database '{self.name}' failed: {error.orig}. Check that it runs, can be "
                "reached and has room."
            ) from error


def insert_new(connection: Connection, table: Table) -> Any:
    """An insert that passes over rows whose key is there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ServeError(
            "the monitor's database is no URL. Use sqlite:///file.db or "
            "postgresql+psycopg://user:password@host/name."
        ) from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ServeError(
            f"database '{shown}' is not supported. Use sqlite:///file.db or "
            "postgresql+psycopg://user:password@host/name."
        )
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ServeError(f"database '{shown}' would be lost at a restart. Name a file.")
    return parsed


def _sqlite(url: URL) -> Engine:
    make_folder(url)
    engine = create_engine(url, connect_args={"timeout": _LOCK_WAIT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions as it pleases
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a commit outlives a power cut

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # a reader that turned writer could not wait for another writer
        is_writer = connection.get_execution_options().get("is_writer")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine
