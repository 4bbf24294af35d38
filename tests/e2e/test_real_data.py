"""The figures that the project promises, on real data. Minutes each: `make test-slow`."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from openai import OpenAI

from ray_sft.bundle import Bundle
from ray_sft.data import SampleStore
from ray_sft.evaluation import evaluate
from ray_sft.inference import Predictor
from ray_sft.tasks import IGNORED
from tests.e2e.real_data import DATA, bundle_figures, needs_data, run, service

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]


@pytest.mark.timeout(1800)
def test_banking77(tmp_path: Path):
    seconds = run(
        "customer_intents",
        f"data.intent.train.path={DATA}/banking77/train.csv",
        f"data.intent.eval.path={DATA}/banking77/test.csv",
        "data.intent.train.columns.label=category",
        "data.intent.eval.columns.label=category",
        cwd=tmp_path,
        timeout=1700,
    )
    figures = bundle_figures(tmp_path / "runs" / "customer_intents")
    trained, small = figures["trained"], figures["int8"]
    print(
        "banking77",
        seconds,
        json.dumps({k: (v["quality"], v["speed"]) for k, v in figures.items()}),
    )
    assert seconds < 20 * 60
    assert trained["quality"]["num_rows"] == 3080
    assert trained["quality"]["accuracy"] >= 0.92
    assert small["quality"]["accuracy"] >= trained["quality"]["accuracy"] - 0.01
    assert small["speed"]["speedup"] >= 2.0


@pytest.mark.timeout(1800)
def test_sgd_conversations(tmp_path: Path):
    run(
        "customer_replies",
        f"data.reply.train.path={DATA}/sgd/train.jsonl",
        f"data.reply.eval.path={DATA}/sgd/test.jsonl",
        "vocab_size=4096",
        "before.0.train.steps=80",
        "train.steps=150",
        cwd=tmp_path,
        timeout=1700,
    )
    folder = tmp_path / "runs" / "customer_replies"
    trained = Bundle.open(folder / "bundles" / "trained")
    store = SampleStore(folder / "data" / "trained" / "reply" / "eval")
    examples = store.all()
    entropy = unigram_entropy(examples)
    predictor = Predictor(trained, num_threads=2)
    few = examples[:64]
    losses = [
        evaluate(trained.task, predictor.runner, predictor.processor, few, max_batch_tokens=size)
        for size in (1, 2048, 16384)
    ]
    loss = trained.manifest.metrics["reply/loss"]
    print("sgd", {"loss": loss, "unigram_entropy": entropy, "by_batch": losses})
    assert loss < entropy
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], abs=1e-5)
    assert losses[0]["loss"] == pytest.approx(losses[2]["loss"], abs=1e-5)
    served_text_is_the_same_streamed_or_not(folder / "bundles" / "int8", tmp_path)


def unigram_entropy(examples) -> float:
    """Nats a target token, of the best model that ignores the context."""
    counts = Counter(
        int(label) for e in examples for label in e.arrays["labels"][1:] if label != IGNORED
    )
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def served_text_is_the_same_streamed_or_not(bundle: Path, folder: Path) -> None:
    with service(str(bundle), port=8123, folder=folder) as key:
        client = OpenAI(base_url="http://127.0.0.1:8123/v1", api_key=key)
        (model,) = client.models.list().data
        for question in ("I want to book a table for two.", "What is my account balance?"):
            asked = {
                "model": model.id,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 40,
                "temperature": 0,
            }
            whole = client.chat.completions.create(**asked).choices[0].message.content
            parts = client.chat.completions.create(**asked, stream=True)
            streamed = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
            print("reply:", whole)
            assert whole == streamed
            assert re.search(r"\w", whole)
