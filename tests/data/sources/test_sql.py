"""Tables and queries, on SQLite and on PostgreSQL."""

import datetime

import pytest
import sqlalchemy

from ray_sft.core import DataError
from ray_sft.data import iterate_rows
from ray_sft.data.sources import Sql
from tests.postgresql import empty_database

COUNT = 1000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database with 1,000 reviews; the ids 300 to 399 are missing."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = empty_database(request.getfixturevalue("postgresql"))
    engine = sqlalchemy.create_engine(url)
    metadata = sqlalchemy.MetaData()
    table = sqlalchemy.Table(
        "reviews",
        metadata,
        sqlalchemy.Column("id", sqlalchemy.BigInteger, primary_key=True),
        sqlalchemy.Column("code", sqlalchemy.String(20)),
        sqlalchemy.Column("text", sqlalchemy.Text),
        sqlalchemy.Column("stars", sqlalchemy.Numeric(3, 1)),
        sqlalchemy.Column("day", sqlalchemy.Date),
    )
    metadata.create_all(engine)
    rows = [
        {
            "id": n,
            "code": f"c{n % 7:02}",
            "text": f"Größe {n} 好",
            "stars": (n % 5) + 0.5,
            "day": datetime.date(2026, 1, 1 + n % 28),
        }
        for n in range(-100, COUNT)
        if not 300 <= n < 400
    ]
    with engine.begin() as connection:
        connection.execute(table.insert(), rows)
    engine.dispose()
    return url


def ids(source):
    return [row["id"] for row in iterate_rows(source)]


@pytest.mark.parametrize("ranges", [1, 2, 7, 10_000])
def test_every_row_comes_once_and_in_order_however_many_readers_share_them(url, ranges):
    source = Sql(url=url, table="reviews", key="id", ranges=ranges)
    assert len(source.slices()) == min(ranges, COUNT + 100)
    assert ids(source) == [n for n in range(-100, COUNT) if not 300 <= n < 400]


def test_values_arrive_as_rows_hold_them(url):
    first = next(iterate_rows(Sql(url=url, table="reviews", key="id", columns={"label": "stars"})))
    assert str(first.pop("day")) == "2026-01-13"  # SQLite has no days, but texts
    assert first == {
        "id": -100,
        "code": "c05",
        "text": "Größe -100 好",
        "stars": 0.5,
        "label": 0.5,
    }


def test_a_query_is_read_like_a_table(url):
    query = "SELECT id, text AS said FROM reviews WHERE stars > 3 AND text LIKE '%1%';"
    source = Sql(url=url, query=query, key="id", ranges=3, skip=2, take=5)
    expected = [n for n in range(-100, COUNT) if n % 5 >= 3 and "1" in str(n)]
    expected = [n for n in expected if not 300 <= n < 400]
    assert ids(source) == expected[2:7]
    assert source.column_names(source.parts()[0]) == ["id", "said"]


def test_a_key_of_text_is_read_by_one_reader(url):
    query = "SELECT DISTINCT code FROM reviews"
    source = Sql(url=url, query=query, key="code")
    assert source.parts() == [":"]
    assert [row["code"] for row in iterate_rows(source)] == [f"c{n:02}" for n in range(7)]


def test_a_key_whose_values_do_not_differ_is_refused(url):
    with pytest.raises(DataError, match="key 'code' of 'reviews' has 7 values for 1000 rows"):
        Sql(url=url, table="reviews", key="code").parts()


def test_the_fingerprint_follows_added_rows(url):
    source = Sql(url=url, table="reviews", key="id")
    before = source.fingerprint()
    assert before == source.fingerprint()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO reviews (id, text) VALUES (5000, 'x')"))
    engine.dispose()
    assert before != source.fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "nothing"}, "cannot read 'nothing' of .*: "),
        ({"key": "nokey"}, "cannot read 'reviews' of .*: "),
        ({"table": "", "query": "SELEC"}, "cannot read 'query on .*: "),
    ],
)
def test_what_the_database_refuses_is_told(url, changes, message):
    source = Sql(**{"url": url, "table": "reviews", "key": "id"} | changes)
    with pytest.raises(DataError, match=message):
        source.parts()


def test_a_database_that_is_not_there_is_told_without_the_password(monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    url = "postgresql+psycopg://me:${SHOP_PASSWORD}@127.0.0.1:9/shop"
    source = Sql(url=url, table="reviews", key="id")
    with pytest.raises(DataError, match=r"me:\*\*\*@127\.0\.0\.1:9/shop") as caught:
        source.parts()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in source.model_dump_json()
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(DataError, match=r"environment variable SHOP_PASSWORD.* is not set"):
        source.parts()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "postgresql://me:hunter2@host/shop", "table": "t"}, "url holds a password"),
        ({"url": "no url", "table": "t"}, "url cannot be read"),
        ({"url": "sqlite:///x.db"}, "either a table or a query"),
        ({"url": "sqlite:///x.db", "table": "t", "query": "q"}, "either a table or a query"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Sql(**fields, key="id")


def test_an_unknown_database_is_told():
    with pytest.raises(DataError, match="no driver for 'fancydb://host/x'"):
        Sql(url="fancydb://host/x", table="t", key="id").parts()
