"""The data stage on bad input: a clear error or rejected rows, and nothing half taken for whole."""

import gzip
import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy

from ray_sft.core import DataError
from ray_sft.data import (
    Jsonl,
    Parquet,
    SampleStore,
    Splits,
    encode,
    prepare,
    write_rejected,
)
from ray_sft.data.index import write_index
from ray_sft.data.rows import position_of
from ray_sft.data.sources import Sql
from tests.factories import tiny_wordpiece
from tests.postgresql import empty_database
from tests.source_factories import TEXT_TASK

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("local_ray"),
]

GOOD = [f"good row {number}" for number in range(20)]


@pytest.fixture(scope="module")
def processor_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    tiny_wordpiece().save_pretrained(folder)
    return folder


@pytest.fixture
def evaluation(tmp_path):
    (tmp_path / "eval.jsonl").write_text('{"text": "some evaluation"}\n')
    return Jsonl(path=str(tmp_path / "eval.jsonl"))


@pytest.fixture
def prepared(tmp_path, evaluation, processor_dir):
    """Prepares a training source and gives its store."""

    def prepare_it(source, out_dir=tmp_path / "out"):
        splits = Splits(train=source, eval=evaluation)
        prepare(TEXT_TASK, splits, processor_dir=processor_dir, out_dir=out_dir, num_tasks=2)
        return SampleStore(out_dir / "train")

    return prepare_it


def json_line(text):
    return json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"


def assert_unfinished(folder):
    with pytest.raises(DataError, match="holds no finished data stage"):
        SampleStore(folder)


def test_bad_lines_are_rejected_one_by_one_with_their_reasons(tmp_path, prepared):
    bad = {
        3: (b'{"text": "caf\xe9"}\n', "byte 0xe9 is not utf-8, unlike the lines before"),
        7: (b'{"text": "nu\x00l"}\n', "not JSON: Invalid control character"),
        11: (json_line("x" * 5_000_000), "a line of 5000013 characters, where max_line allows"),
        15: (b'{"text": "cut o\n', "not JSON: "),
        19: (json_line(" \x00 "), "text is missing or empty"),
    }
    lines = [json_line(f"我的 parcel {number}, please") for number in range(24)]
    for number, (line, _) in bad.items():
        lines[number] = line
    (tmp_path / "train.jsonl").write_bytes(b"".join(lines))
    store = prepared(Jsonl(path=str(tmp_path / "train.jsonl")))
    expected = [position_of(0, number) for number in range(24) if number not in bad]
    assert store.positions.tolist() == expected
    write_rejected([("task/train", tmp_path / "out" / "train")], tmp_path / "rejected.jsonl")
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(line["file"], line["row"]) for line in rejected] == [(0, number) for number in bad]
    for line, (_, reason) in zip(rejected, bad.values(), strict=True):
        assert line["reason"].startswith(reason)


def test_a_gzip_file_that_was_cut_off_leaves_nothing_finished(tmp_path, prepared):
    (tmp_path / "train").mkdir()
    whole = gzip.compress(b"".join(json_line(f"row {n * 7919 % 10_007}") for n in range(5000)))
    (tmp_path / "train" / "a.jsonl").write_bytes(b"".join(map(json_line, GOOD)))
    path = tmp_path / "train" / "b.jsonl.gz"
    source = Jsonl(path=str(tmp_path / "train"))
    path.write_bytes(whole)
    assert len(prepared(source)) == 5020
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.jsonl\.gz' cannot be read: .*get it whole"):
        prepared(source)
    assert_unfinished(tmp_path / "out" / "train")


def test_rows_of_a_parquet_file_with_another_schema_are_used_or_rejected(tmp_path, prepared):
    (tmp_path / "train").mkdir()
    tables = [
        pa.table({"text": GOOD}),
        pa.table({"id": [1, 2], "said": ["not", "mapped"]}),
        pa.table(
            {"text": pa.array(["where is my parcel", None], pa.large_string()), "id": [1.5, 2.5]}
        ),
        pa.table({"text": [1, 2]}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / "train" / f"{number}.parquet")
    store = prepared(Parquet(path=str(tmp_path / "train")))
    used = [position_of(0, number) for number in range(len(GOOD))] + [position_of(2, 0)]
    assert store.positions.tolist() == used
    rejected = [(row["position"], row["reason"]) for row in store.rejected.to_pylist()]
    places = [(1, 0), (1, 1), (2, 1), (3, 0), (3, 1)]
    assert rejected == [(position_of(*place), "text is missing or empty") for place in places]


NUM_REVIEWS = 20_000
SERVER_GOES_AWAY = """
CREATE OR REPLACE FUNCTION said_of(number bigint, is_ill boolean) RETURNS text AS $$
BEGIN
    -- while rows are fetched, but not while they are counted
    IF is_ill AND number = 15000 AND current_query() NOT ILIKE '%count(%' THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN 'review ' || number;
END $$ LANGUAGE plpgsql VOLATILE
"""


def reviews(connection, *, is_ill):
    query = f"SELECT n AS id, said_of(n, {is_ill}) AS text FROM generate_series(1, 20000) AS n"
    connection.execute(sqlalchemy.text("DROP VIEW IF EXISTS reviews"))
    connection.execute(sqlalchemy.text(f"CREATE VIEW reviews AS {query}"))


@pytest.mark.parametrize("ranges", [1, 4])
def test_a_database_that_goes_away_leaves_nothing_finished(tmp_path, prepared, postgresql, ranges):
    url = empty_database(postgresql)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(SERVER_GOES_AWAY))
        reviews(connection, is_ill=True)
    source = Sql(url=url, table="reviews", key="id", ranges=ranges)
    with pytest.raises(DataError, match=r"cannot read 'reviews' of .*: terminating .*try again"):
        prepared(source)
    assert_unfinished(tmp_path / "out" / "train")
    with engine.begin() as connection:
        reviews(connection, is_ill=False)
    engine.dispose()
    assert len(prepared(source)) == NUM_REVIEWS


def test_a_full_disk_leaves_nothing_finished(tmp_path, prepared, small_disk):
    lines = [json_line(f"row {number} " + "of many words " * 10) for number in range(3000)]
    (tmp_path / "train.jsonl").write_bytes(b"".join(lines))
    source = Jsonl(path=str(tmp_path / "train.jsonl"))
    with pytest.raises(DataError, match=r"cannot write to '.*train': .*MiB are free\)\. Make room"):
        prepared(source, small_disk)
    assert_unfinished(small_disk / "train")
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert len(prepared(source, small_disk)) == 3000


@pytest.mark.parametrize("draft", [".000000-0000.arrow.draft", ".000000-0000.rows.parquet.draft"])
def test_a_shard_that_finds_no_room_is_an_error_and_no_shard(
    tmp_path, evaluation, processor_dir, draft
):
    """The same without root: the device /dev/full in the place of the file."""
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / draft).symlink_to("/dev/full")
    settings = {"processor_dir": processor_dir, "out_dir": out_dir, "num_tasks": 1}
    with pytest.raises(DataError, match=r"cannot write to '.*out': .*No space left on device"):
        encode(evaluation, TEXT_TASK, **settings)
    with pytest.raises(DataError, match="no rows"):
        write_index(out_dir)
    assert_unfinished(out_dir)
    encode(evaluation, TEXT_TASK, **settings)
    assert write_index(out_dir).num_accepted == 1
