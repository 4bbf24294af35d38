"""The recommender's database: SQLite in a file, or PostgreSQL, through SQLAlchemy's core.

Counters of changes tell a process what others wrote since it looked last.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from ray_sft.core import ServeError, reason_of
from serve.databases import make_folder
from serve.recommend.tables import METADATA, VERSIONS

__all__ = ["Versions", "chunked", "open_database", "raise_version", "read_versions"]

Counter: TypeAlias = Literal["items", "events", "deletions", "rankers"]
T = TypeVar("T")

_CHUNK = 500
"""Values of one IN list; SQLite and drivers have limits."""


@dataclass(frozen=True, slots=True)
class Versions:
    """How often each kind of row was written; ``deletions`` are those of users."""

    items: int = 0
    events: int = 0
    deletions: int = 0
    rankers: int = 0


def open_database(url: str) -> Engine:
    """The database of ``url`` with its tables made where they are missing.

    Raises:
        ServeError: the URL is wrong, the database is in memory or cannot be reached.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise ServeError(
                f"database '{url}' is in memory: everything would be lost with the process. "
                "Name a file: sqlite:///recommend.db"
            )
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ServeError(
            f"database '{url}' is no URL that SQLAlchemy opens: {error}. Write "
            "sqlite:///recommend.db or postgresql+psycopg://user:password@host/name"
        ) from None
    if engine.dialect.name == "sqlite":
        make_folder(parsed)
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        _create_tables(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        reason = reason_of(error.__cause__ or error)
        raise ServeError(
            f"database '{parsed.render_as_string(hide_password=True)}' cannot be opened: {reason}. "
            "Check that its file can be written or that its server is up."
        ) from None
    return engine


def raise_version(connection: Connection, counter: Counter) -> int:
    """The counter's new value. Other writers of the same kind wait until this one commits."""
    own = VERSIONS.c.name == counter
    connection.execute(update(VERSIONS).where(own).values(version=VERSIONS.c.version + 1))
    return int(connection.execute(select(VERSIONS.c.version).where(own)).scalar_one())


def read_versions(connection: Connection) -> Versions:
    """The counters as they are."""
    rows = connection.execute(select(VERSIONS.c.name, VERSIONS.c.version))
    return Versions(**{row.name: row.version for row in rows})


def chunked(values: Iterable[T]) -> Iterator[list[T]]:
    """``values`` in lists that fit into one statement."""
    chunk: list[T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _create_tables(engine: Engine) -> None:
    try:
        METADATA.create_all(engine)
    except SQLAlchemyError:  # another process may have made them at the same time
        METADATA.create_all(engine)
    for counter in ("items", "events", "deletions", "rankers"):
        with engine.connect() as connection:
            known = select(VERSIONS.c.name).where(VERSIONS.c.name == counter)
            if connection.execute(known).first() is not None:
                continue
        try:
            with engine.begin() as connection:
                connection.execute(insert(VERSIONS).values(name=counter, version=0))
        except IntegrityError:
            continue  # another process was faster


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
