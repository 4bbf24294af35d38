"""The command itself against the service's own application with tiny models, over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.client.raw_server import http, refusal
from tests.apps.client.test_real_models import (
    bundles,
    classifier_bundle,
    generator_bundle,
    keys,
    market_bundle,
    metrics,
    tagger_bundle,
    tokenizer,
    torch_generator_bundle,
    translator_bundle,
    url,
)
from tests.apps.serving import free_port
from tests.serve.conftest import TOKEN

__all__ = [
    "bundles",
    "classifier_bundle",
    "generator_bundle",
    "keys",
    "market_bundle",
    "metrics",
    "tagger_bundle",
    "tokenizer",
    "torch_generator_bundle",
    "translator_bundle",
    "url",
]

RAY_SFT = Path(sys.executable).with_name("ray-sft")
HEAVY = ("torch", "ray", "transformers", "onnxruntime", "gradio", "fastapi", "matplotlib")
GOOD = http(200, {"data": []})
MODELS = http(200, {"data": [{"id": "intents", "task": "sequence_classification"}]})


def bench(*arguments, key=TOKEN):
    environment = {name: value for name, value in os.environ.items() if "RAY_SFT" not in name}
    return subprocess.run(
        [RAY_SFT, "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment | {"RAY_SFT_API_KEY": key, "COLUMNS": "100"},
    )


def figures(done):
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout.splitlines()[-1])
    assert tree["errors"] == {}
    assert tree["failed"] == 0
    assert tree["requests"] > 0
    return tree


@pytest.fixture
def short_texts(tmp_path):
    """The tiny models read 64 tokens."""
    path = tmp_path / "short.txt"
    path.write_text("where is my parcel\nplease cancel the order\n包裹\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("route", "model"),
    [
        ("classify", "intents"),
        ("entities", "names"),
        ("embeddings", "market/vector"),
        ("tokenize", "intents"),
        ("rerank", "market/click"),
        ("score", "market/click"),
    ],
)
def test_a_route_that_reads_texts(url, route, model, short_texts):
    options = ("--connections", "4", "--duration", "1s", "--texts-per-request", "2")
    options += ("--texts", short_texts)
    tree = figures(bench(url, "--route", route, "--model", model, *options))
    assert (tree["route"], tree["model"], tree["mode"]) == (route, model, "closed")
    assert tree["texts_per_s"] == pytest.approx(2 * tree["requests_per_s"], rel=1e-3)
    if route != "tokenize":
        assert tree["tokens_per_s"] > tree["texts_per_s"]
        assert tree["batch_size"]["p50"] >= 2
        assert 0 < tree["inference_ms"]["p50"] < tree["latency_ms"]["max"]
        assert 0 <= tree["queue_ms"]["p50"] < tree["latency_ms"]["max"]


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_a_route_that_writes(url, route):
    options = ("--connections", "2", "--duration", "2s", "--max-tokens", "8")
    tree = figures(bench(url, "--route", route, *options))
    assert 0 < tree["first_token_ms"]["p50"] <= tree["latency_ms"]["p50"]
    assert tree["between_tokens_ms"]["mean"] > 0
    assert 1 <= tree["tokens_per_s"] / tree["requests_per_s"] <= 8
    assert tree["texts_per_s"] is None


def test_by_the_clock_with_files(url, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("where is my parcel\n包裹还没有到上海。\n", encoding="utf-8")
    arguments = ("--model", "intents", "--rate", "40", "--arrivals", "constant", "--texts", texts)
    files = ("--json", tmp_path / "figures.json", "--html", tmp_path / "page.html")
    done = bench(url, *arguments, "--duration", "2s", *files)
    tree = figures(done)
    assert (tree["mode"], tree["rate"], tree["arrivals"]) == ("open", 40.0, "constant")
    assert tree["requests_per_s"] == pytest.approx(40, rel=0.25)
    assert json.loads((tmp_path / "figures.json").read_text("utf-8")) == tree
    assert (tmp_path / "page.html").read_text("utf-8").count("<svg") == 2
    for shown in ("requests/s", "p50", "p99", "latency, ms", "inference", "of a core"):
        assert shown in done.stdout


def test_a_service_that_is_away():
    port = free_port()
    done = bench(f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: The service at http://127.0.0.1:{port} cannot be rea")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("key", "word"), [("", "missing"), ("wrong-wrong-wrong", "wrong")])
def test_a_key_that_does_not_open(url, key, word):
    done = bench(url, key=key)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the API key is {word}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--duration", "soon"), "duration 'soon' is none. Write it as 30s"),
        (("--route", "dance"), "route 'dance' is none of classify"),
        (("--texts", "/no/such/file"), "texts '/no/such/file' cannot be read"),
        (("--rate", "-1"), "the rate is -1.0"),
    ],
)
def test_a_wrong_argument(arguments, message):
    done = bench("http://127.0.0.1:9", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_url():
    done = bench("127.0.0.1:8000")
    assert done.returncode == 1
    assert "is not the URL of a service. Write it as http://" in done.stderr


def test_what_the_service_says_to_the_first_request_is_told(url):
    done = bench(url, "--model", "no-such-model")
    assert done.returncode == 1
    assert "(model_not_found)" in done.stderr
    assert "model 'no-such-model' does not exist" in done.stderr


def test_a_load_of_which_nothing_is_answered_is_a_failure(serve_raw):
    server = serve_raw(MODELS, GOOD, refusal(503, "stopping"))
    done = bench(server.url, "--duration", "300ms", "--connections", "1")
    assert done.returncode == 1
    assert "answered none of the requests" in done.stderr
    tree = json.loads(done.stdout.splitlines()[-1])
    assert set(tree["errors"]) == {"stopping"}
    assert tree["messages"] == {"stopping": "not now (503)."}
    assert "not now (503)." in "".join(done.stdout.splitlines()[:-1])  # for people too
    assert tree["latency_ms"] is None


def test_a_file_that_cannot_be_written_loses_no_figures(serve_raw):
    server = serve_raw(MODELS, GOOD)
    done = bench(server.url, "--duration", "2s", "--json", "/no/such/folder/figures.json")
    assert done.returncode == 1
    assert "/no/such/folder/figures.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["requests"] > 0


def test_a_duration_in_which_no_answer_comes_is_told(serve_raw):
    async def slowly(writer):
        await asyncio.sleep(1.5)
        await GOOD(writer)

    server = serve_raw(MODELS, GOOD, slowly)
    done = bench(server.url, "--duration", "300ms", "--connections", "1")
    assert done.returncode == 1
    assert "Give a longer --duration" in done.stderr


def test_the_key_is_never_printed(url):
    done = bench(url, "--model", "intents", "--duration", "200ms", "--connections", "1")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("code", ["app(['bench', '--help'])", "import apps.bench"])
def test_neither_help_nor_the_command_imports_what_is_heavy(code):
    program = (
        "import sys\n"
        "from ray_sft.cli import app\n"
        f"try:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert found.stderr.strip() == "[]"
