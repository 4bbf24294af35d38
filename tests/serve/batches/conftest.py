"""A service with batches that this process runs, behind a real server, and its keys."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ray_sft.bundle import Bundle
from serve.args import ServiceArgs
from serve.batches import BatchArgs
from serve.batches.worker import BatchRunner
from serve.ingress import create_app
from serve.keys import add_key, load_keys
from serve.metrics import ServiceMetrics
from serve.models import load_models
from tests.apps.serving import free_port, serving
from tests.waiting import wait_until

Lines = list[dict[str, Any]]
FINISHED = ("completed", "failed", "cancelled")


@dataclasses.dataclass
class Service:
    """A service that listens, and what tests of batches ask of it."""

    url: str
    args: ServiceArgs
    keys_file: Path

    def client(self, name: str, **options: Any) -> openai.OpenAI:
        """The official client with a new key of that name."""
        token = add_key(self.keys_file, name=name, **options)
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=token, max_retries=0, timeout=60)
        wait_until(lambda: httpx.get(f"{self.url}/v1/models", headers=self.head(client)).is_success)
        return client

    @staticmethod
    def head(client: openai.OpenAI) -> dict[str, str]:
        return {"authorization": f"Bearer {client.api_key}"}


def request_line(custom_id: str, body: dict[str, Any], url: str = "/v1/classify") -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def content_of(lines: Lines) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def upload(client: openai.OpenAI, lines: Lines, name: str = "in.jsonl") -> str:
    return client.files.create(file=(name, content_of(lines)), purpose="batch").id


def start(client: openai.OpenAI, lines: Lines, endpoint: str = "/v1/classify") -> str:
    """The id of a new batch of lines."""
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint, completion_window="24h"
    ).id


def ended(client: openai.OpenAI, batch_id: str, *, timeout_s: float = 60) -> openai.types.Batch:
    """The batch once it has ended."""
    wait_until(
        lambda: client.batches.retrieve(batch_id).status in FINISHED,
        timeout_s=timeout_s,
        every_s=0.05,
    )
    return client.batches.retrieve(batch_id)


def lines_of(client: openai.OpenAI, file_id: str | None) -> Lines:
    assert file_id is not None
    content = client.files.content(file_id).content
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.removesuffix(b"\n").split(b"\n")]


@pytest.fixture(scope="module")
def batch_args(tmp_path_factory: pytest.TempPathFactory) -> BatchArgs:
    return BatchArgs(
        folder=str(tmp_path_factory.mktemp("batches")),
        block_lines=4,
        lines_at_once=3,
        max_file_bytes=20_000,
        max_lines=50,
        max_line_bytes=4_000,
        max_files=6,
        max_unfinished=2,
    )


@pytest.fixture(scope="module")
def args(
    classifier_bundle: Bundle,
    generator_bundle: Bundle,
    batch_args: BatchArgs,
    tmp_path_factory: pytest.TempPathFactory,
) -> ServiceArgs:
    return ServiceArgs(
        bundles={"intents": str(classifier_bundle.path), "replies": str(generator_bundle.path)},
        num_cpus=1,
        max_body_bytes=2048,
        max_inputs=4,
        max_tokens=16,
        num_slots=2,
        keys_file=str(tmp_path_factory.mktemp("keys") / "keys.json"),
        batches=batch_args,
    )


def served(args: ServiceArgs, runner: BatchRunner | None = None) -> Iterator[Service]:
    """The service, listening; ``runner`` as for `create_app`."""
    keys_file = Path(args.keys_file)
    add_key(keys_file, name="first")
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    keys = load_keys(keys_file, {})
    app = create_app(args, models=models, keys=keys, metrics=metrics, batches=runner)
    port = free_port()
    with serving(app, port):
        yield Service(f"http://127.0.0.1:{port}", args, keys_file)


@pytest.fixture(scope="module")
def service(args: ServiceArgs) -> Iterator[Service]:
    yield from served(args)
