"""`/v1/translate` on a tiny translator, in torch and in ONNX."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from ray_sft.bundle import Bundle
from ray_sft.compression import ExportOnnx
from ray_sft.inference.translator import Translator
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from tests.compression.conftest import run_chain, write_bundle
from tests.factories import TEXTS, tiny_processor, tiny_translator, translation

from .conftest import TOKEN

pytestmark = pytest.mark.asyncio

ASKED = [f"{text} {number}" for number in range(3) for text in TEXTS]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder, pairs = tmp_path_factory.mktemp("translators"), translation()
    model = tiny_translator()
    model.final_logits_bias[0, tiny_processor().eos_token_id] = 4.5  # some texts end, some do not
    source = write_bundle(
        folder / "trained",
        name="pairs",
        task=pairs.task,
        model=model,
        processor=tiny_processor(),
        rows=pairs.rows,
    )
    (_, exported) = run_chain((ExportOnnx(),), source, {}, folder)
    return {"torch": source, "onnx": Bundle.open(exported.path)}


@pytest.fixture(scope="module")
def models(bundles: dict[str, Bundle], metrics: ServiceMetrics) -> Iterator[Models]:
    paths = {name: str(bundle.path) for name, bundle in bundles.items()}
    args = ServiceArgs(bundles=paths, num_cpus=1, max_body_bytes=8192, max_inputs=32)
    loaded = load_models(args, num_threads=1, metrics=metrics)
    yield loaded
    loaded.close()


@pytest_asyncio.fixture
async def asker(
    bundles: dict[str, Bundle], models: Models, keys: KeyRing, metrics: ServiceMetrics
) -> AsyncIterator[httpx.AsyncClient]:
    paths = {name: str(bundle.path) for name, bundle in bundles.items()}
    args = ServiceArgs(bundles=paths, num_cpus=1, max_body_bytes=8192, max_inputs=32)
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    transport = httpx.ASGITransport(app)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        yield client


@pytest.mark.parametrize("name", ["torch", "onnx"])
async def test_translations_are_those_of_the_bundle(
    asker: httpx.AsyncClient, bundles: dict[str, Bundle], name: str
) -> None:
    reply = await asker.post("/v1/translate", json={"model": name, "input": ASKED})
    assert reply.status_code == 200, reply.text
    tree = reply.json()
    assert {item["finish_reason"] for item in tree["data"]} == {"stop", "length"}
    translator = Translator.load(str(bundles[name].path))
    expected = translator.translate(ASKED)
    for item, answer in zip(tree["data"], expected, strict=True):
        is_whole = item["finish_reason"] == "stop"
        assert (item["text"] if is_whole else "") == answer
    examples = translator.task.encode([{"text": text} for text in ASKED], translator.processor)
    written = [translator.run([example])[0] for example in examples]
    assert [item["text"] for item in tree["data"]] == [one.text for one in written]
    assert tree["usage"]["prompt_tokens"] == sum(example.length for example in examples)
    assert tree["usage"]["completion_tokens"] == sum(one.num_tokens for one in written)


async def test_both_say_the_same(asker: httpx.AsyncClient) -> None:
    one, two = [
        (await asker.post("/v1/translate", json={"model": name, "input": ASKED})).json()["data"]
        for name in ("torch", "onnx")
    ]
    assert one == two


async def test_what_cannot_be_translated_is_explained(asker: httpx.AsyncClient) -> None:
    reply = await asker.post("/v1/translate", json={"model": "onnx", "input": "word " * 400})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_text"
    reply = await asker.post("/v1/translate", json={"input": "a"})
    assert reply.status_code == 400
    assert "which model? This route has: onnx, torch" in reply.json()["error"]["message"]
    reply = await asker.post("/v1/classify", json={"model": "onnx", "input": "a"})
    assert reply.status_code == 424
