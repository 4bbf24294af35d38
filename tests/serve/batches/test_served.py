"""A batch within the service as it runs: Ray Serve, its proxy, Ray Data, and a restart."""

import json
from pathlib import Path

import openai
import pytest

from ray_sft.bundle import Bundle
from serve import ServiceArgs
from serve.batches import BatchArgs
from serve.batches.schema import Batch
from serve.batches.store import Store
from tests.serve.conftest import TEXTS
from tests.serve.test_run import service
from tests.waiting import wait_until

from .conftest import ended, lines_of, request_line, start

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

NUM_LINES = 400


def test_a_batch_outlives_its_service(classifier_bundle: Bundle, tmp_path: Path) -> None:
    store = Store(tmp_path / "batches")
    args = ServiceArgs(
        bundles={"intents": str(classifier_bundle.path)},
        num_cpus=1,
        max_body_bytes=100_000,
        batches=BatchArgs(folder=str(store.folder), block_lines=4, lines_at_once=1),
    )
    lines = [request_line(str(number), {"input": TEXTS[number % 5]}) for number in range(NUM_LINES)]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with service(args, first) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0)
        padded = [{**line, "body": {**line["body"], "top_k": 1}} for line in lines[:3]]
        padded[0]["body"]["input"] = "x" * 90_000  # refused, and longer with the rest than a body
        padded[1]["body"]["input"] = "y" * 90_000
        short = ended(client, start(client, padded), timeout_s=200)
        assert (short.status, short.request_counts and short.request_counts.failed) == (
            "completed",
            2,
        )
        assert [one["custom_id"] for one in lines_of(client, short.output_file_id)] == ["2"]
        assert len(client.files.content(short.input_file_id).content) > 180_000
        batch_id = start(client, lines)
        wait_until(
            lambda: list(store.folder.glob(f"*/batches/{batch_id}/parts/*/*.json")), timeout_s=200
        )
    (path,) = store.folder.glob(f"*/batches/{batch_id}")
    assert shown(path).status == "in_progress", running.errors.read_text()[-3000:]
    with service(args, second) as running:
        wait_until(lambda: shown(path).status == "completed", timeout_s=200)
    output = path.parents[1] / "files" / f"{shown(path).output_file_id}.jsonl"
    found = [json.loads(line)["custom_id"] for line in output.read_bytes().splitlines()]
    assert found == [line["custom_id"] for line in lines]


def shown(folder: Path) -> Batch:
    record = Store(folder.parents[2]).batch(folder.parents[1].name, folder.name)
    assert record is not None
    return record.shown
