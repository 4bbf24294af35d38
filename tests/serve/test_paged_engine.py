"""The service on the engine for CUDA: the same routes, and what that engine cannot do is told."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression import ExportOnnx
from ray_sft.core import BundleError
from ray_sft.inference import PagedEngine, missing_for_cuda
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from tests.serve.conftest import TEXTS, TOKEN

ASKED = {"model": "replies", "messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 8}


def open_paged(bundle: Bundle, *, num_slots: int, max_queued: int, **_: object) -> PagedEngine:
    """The engine for CUDA on a graph for processors, which it runs, too."""
    return PagedEngine(bundle, num_slots=num_slots, max_queued=max_queued)


@pytest.fixture(scope="module")
def paged_models(service_args: ServiceArgs) -> Iterator[Models]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["serve.loading"], "open_engine", open_paged)
        args = service_args.model_copy(
            update={"bundles": {"replies": service_args.bundles["replies"]}}
        )
        models = load_models(args, num_threads=1, metrics=ServiceMetrics())
    yield models
    models.close()


@pytest_asyncio.fixture
async def paged(
    service_args: ServiceArgs, paged_models: Models, keys: KeyRing
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(service_args, models=paged_models, keys=keys, metrics=ServiceMetrics())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://service",
        headers={"authorization": f"Bearer {TOKEN}"},
    ) as client:
        yield client


@pytest.mark.asyncio
async def test_a_chat_is_answered_as_by_the_engine_for_processors(
    paged: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    replies = [
        (await one.post("/v1/chat/completions", json=ASKED)).json() for one in (paged, client)
    ]
    assert replies[0]["choices"] == replies[1]["choices"]
    counts = [
        [reply["usage"][name] for name in ("prompt_tokens", "completion_tokens")]
        for reply in replies
    ]
    assert counts[0] == counts[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"logprobs": True, "top_logprobs": 2}, "log-probabilities cannot be had"),
        ({"presence_penalty": 1.0}, "presence_penalty and frequency_penalty cannot be had"),
        ({"response_format": {"type": "json_object"}}, "in a given form (json_schema)"),
        ({"temperature": 1.0, "seed": 9, "n": 2}, "draws with seed 0 only"),
    ],
)
async def test_what_that_engine_cannot_do_is_a_mistake_of_the_request(
    paged: httpx.AsyncClient, options: dict, match: str, *, stream: bool
) -> None:
    asked = {**ASKED, **options, "stream": stream}
    reply = await paged.post("/v1/chat/completions", json=asked)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert match in error["message"]
    assert error["code"] == "invalid_value"


@pytest.mark.asyncio
async def test_completions_are_refused_alike(paged: httpx.AsyncClient) -> None:
    asked = {"model": "replies", "prompt": TEXTS[0], "max_tokens": 4}
    assert (await paged.post("/v1/completions", json=asked)).status_code == 200
    reply = await paged.post("/v1/completions", json={**asked, "logprobs": 1})
    assert reply.status_code == 400
    assert "log-probabilities cannot be had" in reply.json()["error"]["message"]


@pytest.mark.skipif(not missing_for_cuda(), reason="this host has CUDA")
def test_a_bundle_for_cuda_is_refused_with_what_is_missing(
    torch_generator_bundle: Bundle, service_args: ServiceArgs, tmp_path: Path
) -> None:
    source = torch_generator_bundle
    update = {"variant": "onnx", "format": "onnx", "files": {}}
    with BundleWriter(tmp_path / "cuda") as out:
        ExportOnnx(device="cuda", dtype="bf16").apply(source, out)
        out.copy_processor(source)
        out.write_samples(source.samples())
        out.finish(source.manifest.model_copy(update=update))
    args = service_args.model_copy(update={"bundles": {"replies": str(tmp_path / "cuda")}})
    with pytest.raises(BundleError, match=r"for CUDA.*onnxruntime-genai-cuda==.*device: cpu"):
        load_models(args, num_threads=1, metrics=ServiceMetrics())
