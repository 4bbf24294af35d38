"""Two tiny real models as bundles, and the whole application around them, without Ray."""

import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest
import pytest_asyncio
import torch
import uvicorn
from starlette.types import ASGIApp
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compression import ExportOnnx
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import train_tokenizer
from ray_sft.tasks import CausalLanguageModel, SequenceClassification
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing, load_keys
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models

TOKEN = "a-key-that-only-tests-use"
TEXTS = (
    "where is my parcel",
    "the card was charged twice",
    "please cancel the order that I made yesterday",
    "how do I change my address",
    "I want to talk to a person",
)
LABELS = ("account", "billing", "delivery")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 4, vocab_size=384)


@pytest.fixture(scope="session")
def classifier_bundle(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Bundle:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=len(LABELS),
    )
    task = SequenceClassification(labels=LABELS, max_length=64)
    manifest = Manifest(name="intents", variant="trained", format="torch", tasks={"intent": task})
    path = tmp_path_factory.mktemp("bundles") / "intents"
    rows = [{"text": text} for text in TEXTS]
    return _torch_bundle(path, BertForSequenceClassification(config), tokenizer, manifest, rows)


@pytest.fixture(scope="session")
def torch_generator_bundle(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Bundle:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    task = CausalLanguageModel(max_length=128)
    manifest = Manifest(name="replies", variant="trained", format="torch", tasks={"reply": task})
    turns = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": TEXTS[3]}]
    path = tmp_path_factory.mktemp("bundles") / "replies-trained"
    model = LlamaForCausalLM(config)
    return _torch_bundle(path, model, tokenizer, manifest, [{"messages": turns}])


@pytest.fixture(scope="session")
def generator_bundle(torch_generator_bundle: Bundle) -> Bundle:
    source = torch_generator_bundle
    path = source.path.with_name("replies")
    update = {"variant": "onnx", "format": "onnx", "files": {}}
    manifest = source.manifest.model_copy(update=update)
    with BundleWriter(path) as out:
        ExportOnnx().apply(source, out)
        out.copy_processor(source)
        out.write_samples(source.samples())
        out.write_card("tiny")
        return out.finish(manifest)


def _torch_bundle(
    path: Path,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    manifest: Manifest,
    rows: list[dict],
) -> Bundle:
    """Written twice: the samples of the second are the answers of the first."""
    samples = [{"request": row, "response": {}} for row in rows]
    for _ in range(2):
        with BundleWriter(path) as out:
            model.eval().save_pretrained(out.model_dir)
            tokenizer.save_pretrained(out.processor_dir)
            out.write_samples(samples)
            out.write_card("tiny")
            bundle = out.finish(manifest)
        samples = record_samples(Predictor(bundle), rows)
    return bundle


@pytest.fixture(scope="session")
def service_args(classifier_bundle: Bundle, generator_bundle: Bundle) -> ServiceArgs:
    return ServiceArgs(
        bundles={
            "intents": str(classifier_bundle.path),
            "replies": str(generator_bundle.path),
        },
        num_cpus=1,
        max_body_bytes=8192,
        max_inputs=8,
        max_tokens=48,
        num_slots=2,
        request_timeout_s=20.0,
    )


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return load_keys(tmp_path_factory.mktemp("keys") / "none.json", {"RAY_SFT_API_KEYS": TOKEN})


@pytest.fixture(scope="session")
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture(scope="session")
def models(service_args: ServiceArgs, metrics: ServiceMetrics) -> Iterator[Models]:
    loaded = load_models(service_args, num_threads=1, metrics=metrics)
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def app(
    service_args: ServiceArgs, models: Models, keys: KeyRing, metrics: ServiceMetrics
) -> ASGIApp:
    return create_app(service_args, models=models, keys=keys, metrics=metrics)


@asynccontextmanager
async def client_with_key(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of any application, without a network, that sends the tests' key."""
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        yield client


@pytest_asyncio.fixture
async def stranger(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest_asyncio.fixture
async def client(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    stranger.headers["authorization"] = f"Bearer {TOKEN}"
    return stranger


@pytest.fixture(scope="session")
def server_url(app: ASGIApp) -> Iterator[str]:
    """The same application behind a real HTTP server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        ends_at = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < ends_at, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def damaged_bundle(classifier_bundle: Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "damaged"
    shutil.copytree(classifier_bundle.path, path)
    weights = path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    return path


@pytest.fixture
def drifted_bundle(classifier_bundle: Bundle, tmp_path: Path) -> Path:
    """Undamaged, but its samples are not what it answers."""
    samples = list(classifier_bundle.samples())
    samples[0]["response"]["score"] += 0.2
    with BundleWriter(tmp_path / "drifted") as out:
        shutil.copytree(classifier_bundle.model_dir, out.model_dir, dirs_exist_ok=True)
        out.copy_processor(classifier_bundle)
        out.write_samples(samples)
        out.finish(classifier_bundle.manifest.model_copy(update={"files": {}}))
    return tmp_path / "drifted"


@pytest.fixture
def official(server_url: str) -> Iterator[openai.OpenAI]:
    """The official client of that server."""
    with openai.OpenAI(
        base_url=f"{server_url}/v1", api_key=TOKEN, max_retries=0, timeout=60
    ) as client:
        yield client


@pytest.fixture
def http(server_url: str) -> Iterator[httpx.Client]:
    """A plain client of that server, with a key."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=server_url, headers=headers, timeout=60, trust_env=False) as client:
        yield client
