"""Batches brought to their end whatever happens on the way, with a plain function for Ray Data."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ray_sft.bundle import Bundle
from serve.args import ServiceArgs
from serve.batches import BatchArgs
from serve.batches.ids import EVERYBODY, new_batch_id, new_file_id
from serve.batches.job import Job
from serve.batches.lines import Block, read_block
from serve.batches.parts import Tally, write_part
from serve.batches.records import BatchRecord, FileRecord
from serve.batches.runner import Runner
from serve.batches.schema import Batch, FileObject
from serve.batches.store import Store
from serve.ingress import bare_api

from .conftest import content_of, request_line

NUM_LINES = 10


class Answering:
    """Answers a line with its custom id; every third line fails. Dies where it is told."""

    def __init__(self) -> None:
        self.dies_after: int | None = None
        self.answered: list[int] = []
        self.before_block: Callable[[Job, Block], None] = lambda *_: None

    def __call__(self, job: Job, blocks: Sequence[Block]) -> Iterator[Tally]:
        for block in sorted(blocks, key=lambda one: -one.index):  # no order is promised
            self.before_block(job, block)
            if self.dies_after == 0:
                raise RuntimeError("killed")
            if job.cancel.exists():
                yield write_part(job.parts, block.index, [], [])
                continue
            names = [line.custom_id.encode() + b"\n" for line in read_block(job.input, block)]
            failed = [one for one in names if int(one) % 3 == 0]
            completed = [one for one in names if int(one) % 3]
            tally = write_part(job.parts, block.index, completed, failed)
            self.answered.append(block.index)
            if self.dies_after:
                self.dies_after -= 1
            yield tally


@pytest.fixture
def args(tmp_path: Path, classifier_bundle: Bundle) -> ServiceArgs:
    path = tmp_path / "bundle"
    shutil.copytree(classifier_bundle.path, path)
    return ServiceArgs(
        bundles={"intents": str(path)},
        num_cpus=1,
        batches=BatchArgs(folder=str(tmp_path / "batches"), days=10),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "batches")


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
def runner(args: ServiceArgs, answering: Answering) -> Runner:
    return Runner(args, bare_api, answering, clock=lambda: 1000.0)


def put_file(store: Store, *, expires_at: int = 10_000, owner: str = EVERYBODY) -> str:
    lines = [request_line(str(number), {"input": "x"}) for number in range(NUM_LINES)]
    file_id = new_file_id()
    shown = FileObject(
        id=file_id, bytes=1, created_at=0, expires_at=expires_at, filename="a", purpose="batch"
    )
    path = store.content(owner, file_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content_of(lines))
    store.put_file(owner, FileRecord(created_ns=0, shown=shown))
    return file_id


def put_batch(
    store: Store, args: ServiceArgs, *, created_ns: int = 0, owner: str = EVERYBODY
) -> BatchRecord:
    record = BatchRecord(
        created_ns=created_ns,
        owner=owner,
        key=None,
        bundles=args.bundles,
        fingerprints={name: Bundle.open(path).fingerprint for name, path in args.bundles.items()},
        block_lines=2,
        output_id=new_file_id(),
        error_id=new_file_id(),
        shown=Batch(
            id=new_batch_id(),
            endpoint="/v1/classify",
            input_file_id=put_file(store, owner=owner),
            created_at=900,
        ),
    )
    store.put_batch(record)
    return record


def seen(store: Store, record: BatchRecord) -> Batch:
    found = store.batch(record.owner, record.shown.id)
    assert found is not None
    return found.shown


def numbers(store: Store, file_id: str | None, owner: str = EVERYBODY) -> list[int]:
    if file_id is None:
        return []
    assert store.file(owner, file_id) is not None
    return [int(line) for line in store.content(owner, file_id).read_bytes().splitlines()]


def test_what_comes_in_any_order_is_written_in_the_files(store, args, runner):
    record = put_batch(store, args)
    runner.run_due()
    shown = seen(store, record)
    assert shown.status == "completed"
    assert numbers(store, shown.output_file_id) == [1, 2, 4, 5, 7, 8]
    assert numbers(store, shown.error_file_id) == [0, 3, 6, 9]
    assert shown.request_counts.model_dump() == {"total": 10, "completed": 6, "failed": 4}


@pytest.mark.parametrize("num_blocks", [0, 1, 3])
def test_a_new_process_answers_only_what_is_missing(store, args, answering, num_blocks):
    record = put_batch(store, args)
    stopped = threading.Event()

    def stop(*_: object) -> None:
        if len(answering.answered) == num_blocks:
            stopped.set()

    answering.before_block = stop
    Runner(args, bare_api, answering).run_due(stopped.is_set)
    assert seen(store, record).status == "in_progress"
    first = list(answering.answered)
    assert len(first) == num_blocks + 1  # the block that was being answered is finished
    answering.before_block = lambda *_: None
    Runner(args, bare_api, answering).run_due()
    assert sorted(answering.answered) == [0, 1, 2, 3, 4]
    shown = seen(store, record)
    assert numbers(store, shown.output_file_id) == [1, 2, 4, 5, 7, 8]
    assert numbers(store, shown.error_file_id) == [0, 3, 6, 9]


def test_a_torn_block_is_answered_again(store, args, runner, answering):
    record = put_batch(store, args)
    attempt = store.batch_folder(EVERYBODY, record.shown.id) / "parts" / "old"
    write_part(attempt, 4, [b"8\n"], [b"9\n"])
    write_part(attempt, 3, [b"7\n", b"torn"], [b"6\n"])
    (attempt / "00000003.json").unlink()
    runner.run_due()
    assert sorted(answering.answered) == [0, 1, 2, 3]
    assert numbers(store, seen(store, record).output_file_id) == [1, 2, 4, 5, 7, 8]


def test_a_failure_is_tried_again_and_then_given_up(store, args, runner, answering):
    record = put_batch(store, args)
    answering.dies_after = 2
    runner.run_due()
    shown = seen(store, record)
    assert shown.status == "failed"
    assert shown.errors is not None
    assert shown.errors.data[0].code == "internal_error"
    assert answering.answered == [4, 3]
    assert numbers(store, shown.output_file_id) == [7, 8]  # what was paid for is not lost
    assert numbers(store, shown.error_file_id) == [6, 9]


def test_a_failure_that_passes_leaves_no_trace(store, args, runner, answering):
    record = put_batch(store, args)
    failures = [RuntimeError("away"), RuntimeError("away")]

    def fail(*_: object) -> None:
        if failures:
            raise failures.pop()

    answering.before_block = fail
    runner.run_due()
    assert seen(store, record).status == "completed"


def test_batches_run_in_the_order_in_which_they_were_made(store, args, runner, answering):
    order: list[str] = []
    records = [put_batch(store, args, created_ns=n, owner="ab"[n % 2]) for n in (3, 1, 2, 0)]
    answering.before_block = lambda job, _: order.append(job.parts.parents[1].name)
    runner.run_due()
    expected = [one.shown.id for one in sorted(records, key=lambda one: one.created_ns)]
    assert list(dict.fromkeys(order)) == expected
    assert {seen(store, one).status for one in records} == {"completed"}


def test_two_processes_do_not_run_the_same_batch(store, args, answering):
    record = put_batch(store, args)
    other = Runner(args, bare_api, answering)
    answering.before_block = lambda *_: other.run_due()
    Runner(args, bare_api, answering).run_due()
    assert sorted(answering.answered) == [0, 1, 2, 3, 4]
    assert seen(store, record).status == "completed"


def test_a_cancelled_batch_keeps_what_was_answered(store, args, runner, answering):
    record = put_batch(store, args)

    def cancel(*_: object) -> None:
        if len(answering.answered) == 2:
            store.wish_cancelled(record, 950)

    answering.before_block = cancel
    runner.run_due()
    shown = seen(store, record)
    assert (shown.status, shown.cancelling_at, shown.cancelled_at) == ("cancelled", 950, 1000)
    assert numbers(store, shown.output_file_id) == [7, 8]
    assert shown.request_counts.model_dump() == {"total": 10, "completed": 2, "failed": 2}


def test_a_batch_cancelled_before_it_began_asks_nobody(store, args, runner, answering):
    record = put_batch(store, args)
    store.wish_cancelled(record, 950)
    runner.run_due()
    assert seen(store, record).status == "cancelled"
    assert not answering.answered


def test_a_batch_is_not_finished_on_another_bundle(store, args, runner, answering, drifted_bundle):
    record = put_batch(store, args)
    answering.dies_after = 1
    stopped = threading.Event()
    answering.before_block = lambda *_: stopped.set()
    Runner(args, bare_api, answering).run_due(stopped.is_set)
    folder = Path(args.bundles["intents"])
    shutil.rmtree(folder)
    shutil.copytree(drifted_bundle, folder)
    answering.dies_after, answering.before_block = None, lambda *_: None
    runner.run_due()
    shown = seen(store, record)
    assert shown.status == "failed"
    assert shown.errors is not None
    (error,) = shown.errors.data
    assert error.code == "bundle_changed"
    assert record.fingerprints["intents"][:12] in error.message
    assert numbers(store, shown.output_file_id) == [8]


def test_a_bundle_that_is_gone_is_named(store, args, runner):
    record = put_batch(store, args)
    shutil.rmtree(args.bundles["intents"])
    runner.run_due()
    errors = seen(store, record).errors
    assert errors is not None
    assert errors.data[0].code == "bundle_changed"
    assert "'intents'" in errors.data[0].message


def test_an_input_that_is_gone_fails_the_batch(store, args, runner):
    record = put_batch(store, args)
    store.delete_file(EVERYBODY, record.shown.input_file_id)
    runner.run_due()
    errors = seen(store, record).errors
    assert errors is not None
    assert errors.data[0].code == "file_not_found"


def test_what_has_expired_is_deleted_but_for_what_is_in_use(store, args, answering):
    record = put_batch(store, args)
    old, young = put_file(store, expires_at=500), put_file(store, expires_at=1_000_000)
    killed = [store.draft(EVERYBODY), store.content(EVERYBODY, new_file_id())]
    for path in killed:
        path.write_bytes(b"")
    now = 900 + 10 * 86_400 - 1
    store.sweep(now, keep_s=10 * 86_400)
    assert store.file(EVERYBODY, old) is None
    assert not store.content(EVERYBODY, old).exists()
    assert store.file(EVERYBODY, young) is not None
    assert store.file(EVERYBODY, record.shown.input_file_id) is not None
    Runner(args, bare_api, answering, clock=lambda: now).run_due()
    assert seen(store, record).status == "completed"
    Runner(args, bare_api, answering, clock=lambda: now + 1).run_due()
    assert store.batch(EVERYBODY, record.shown.id) is None
    assert store.file(EVERYBODY, record.output_id) is not None
    Runner(args, bare_api, answering, clock=lambda: now + 10 * 86_400).run_due()
    assert store.files(EVERYBODY) == []
    assert all(path.exists() for path in killed)
    store.sweep(time.time() + 3 * 86_400, keep_s=0)
    assert not any(path.exists() for path in killed)


def test_a_record_of_another_version_hides_nothing_else(store, args, runner):
    record = put_batch(store, args)
    odd = store.batch_folder(EVERYBODY, new_batch_id()) / "batch.json"
    odd.parent.mkdir()
    odd.write_text('{"version": 9}')
    runner.run_due()
    assert [one.shown.status for one in store.batches(EVERYBODY)] == ["completed"]
    assert seen(store, record).status == "completed"


def test_what_is_no_id_finds_nothing(store):
    for text in ("", "file-", "../x", "file-" + "g" * 32, f"{new_file_id()}\n", "\x00", "a" * 5000):
        assert store.file(EVERYBODY, text) is None
        assert store.batch(EVERYBODY, text) is None
