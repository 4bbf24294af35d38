"""A batch through Ray Data, whose runner and workers are killed in the middle."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import ray

from ray_sft.bundle import Bundle
from serve.args import ServiceArgs
from serve.batches import BatchArgs
from serve.batches.actor import ActorRunner
from serve.batches.batches import Batches
from serve.batches.records import BatchRecord
from serve.batches.schema import BatchRequest
from serve.batches.store import Store
from serve.ingress import bare_api
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from tests.ray_session import local_ray
from tests.serve.conftest import TEXTS
from tests.waiting import async_wait_until

from .conftest import content_of, request_line

__all__ = ["local_ray"]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.asyncio,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(600),
]

NUM_LINES = 400


@pytest.fixture
def args(classifier_bundle: Bundle, tmp_path: Path) -> ServiceArgs:
    return ServiceArgs(
        bundles={"intents": str(classifier_bundle.path)},
        num_cpus=1,
        batches=BatchArgs(folder=str(tmp_path / "batches"), block_lines=8, lines_at_once=1),
    )


@pytest.fixture
def models(args: ServiceArgs) -> Iterator[Models]:
    loaded = load_models(args, num_threads=1, metrics=ServiceMetrics())
    yield loaded
    loaded.close()


async def made(batches: Batches, num_lines: int) -> BatchRecord:
    """A batch of so many lines, of which every tenth cannot be answered."""
    bodies = [
        {"input": TEXTS[number % 5]} if number % 10 else {"input": []}
        for number in range(num_lines)
    ]
    lines = [request_line(f"line-{number}", body) for number, body in enumerate(bodies)]

    async def form():
        yield b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="in"\r\n\r\n'
        yield content_of(lines)
        yield b"\r\n--x--\r\n"

    file = await batches.upload("multipart/form-data; boundary=x", form())
    request = BatchRequest(input_file_id=file.id, endpoint="/v1/classify", completion_window="24h")
    shown = await batches.create(request)
    found = Store(Path(batches.args.folder)).batch("everybody", shown.id)
    assert found is not None
    return found


def parts_of(args: ServiceArgs, record: BatchRecord) -> dict[Path, int]:
    """The tallies on disk, and when they were written."""
    assert args.batches is not None
    folder = Store(Path(args.batches.folder)).batch_folder(record.owner, record.shown.id)
    return {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.json")}


def answers(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_a_killed_batch_goes_on_where_it_stopped(args: ServiceArgs, models: Models) -> None:
    assert args.batches is not None
    name = uuid4().hex
    runner = ActorRunner(name, args, bare_api)
    batches = Batches(args.batches, models, runner)
    record = await made(batches, NUM_LINES)
    second = await made(batches, 1)
    await async_wait_until(lambda: len(parts_of(args, record)) >= 3, timeout_s=200)
    ray.kill(ray.get_actor(name))
    before = parts_of(args, record)
    assert 3 <= len(before) < NUM_LINES / 8
    done = {
        one["custom_id"]: one["response"]["request_id"]
        for path in before
        for one in answers(path.with_suffix(".completed"))
    }
    shown = await batches.batch(record.shown.id)
    assert shown.status == "in_progress"

    async with batches.running():  # another replica looks, and makes a new actor
        other = ActorRunner(name, args, bare_api)
        await asyncio.gather(other.wake(), other.wake())
        await async_wait_until(
            lambda: (
                Store(Path(args.batches.folder))  # type: ignore[union-attr] # it has
                .batch("everybody", second.shown.id)
                .is_finished
            ),
            timeout_s=200,
        )
    ended = await batches.batch(record.shown.id)
    last = await batches.batch(second.shown.id)
    assert (ended.status, last.status) == ("completed", "completed")
    assert (last.in_progress_at or 0) >= (ended.completed_at or 0)
    assert ended.request_counts.model_dump() == {
        "total": NUM_LINES,
        "completed": NUM_LINES * 9 // 10,
        "failed": NUM_LINES // 10,
    }
    completed = answers(await batches.content(ended.output_file_id or ""))
    failed = answers(await batches.content(ended.error_file_id or ""))
    numbers = range(NUM_LINES)
    assert [one["custom_id"] for one in completed] == [f"line-{n}" for n in numbers if n % 10]
    assert [one["custom_id"] for one in failed] == [f"line-{n}" for n in numbers if not n % 10]
    kept = {one["custom_id"]: one["response"]["request_id"] for one in completed}
    assert done.items() <= kept.items()
    ray.kill(ray.get_actor(name))


async def test_a_cancelled_batch_keeps_what_was_answered(args: ServiceArgs, models: Models) -> None:
    assert args.batches is not None
    name = uuid4().hex
    batches = Batches(args.batches, models, ActorRunner(name, args, bare_api))
    record = await made(batches, NUM_LINES)
    await async_wait_until(lambda: parts_of(args, record), timeout_s=200)
    await batches.cancel(record.shown.id)
    assert (await batches.batch(record.shown.id)).status in ("cancelling", "cancelled")
    store = Store(Path(args.batches.folder))
    await async_wait_until(
        lambda: store.batch("everybody", record.shown.id).is_finished,  # type: ignore[union-attr]
        timeout_s=100,
    )
    shown = await batches.batch(record.shown.id)
    assert shown.status == "cancelled"
    assert shown.cancelling_at is not None
    assert 0 < shown.request_counts.completed < NUM_LINES * 9 // 10
    completed = answers(await batches.content(shown.output_file_id or ""))
    assert len(completed) == shown.request_counts.completed
    ray.kill(ray.get_actor(name))
