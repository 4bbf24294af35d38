"""What other tasks reach on real data. Minutes each: `make test-slow`."""

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.real_data import DATA, needs_data, run_tree

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

EXPORT = {"passes": [{"kind": "export_onnx"}, {"kind": "quantize_int8"}]}


def files(train: Path | str, evaluation: Path | str, **source: Any) -> dict[str, Any]:
    return {
        "train": {"path": str(train), **source},
        "eval": {"path": str(evaluation), **source},
    }


@pytest.mark.timeout(1500)
def test_financial_sentiment(tmp_path: Path):
    folder = DATA / "twitter_financial"
    tree = {
        "name": "sentiment",
        "model": "embedded/minilm",
        "tasks": {"sentiment": {"kind": "sequence_classification", "max_length": 96}},
        "data": {
            "sentiment": files(folder / "sent_train.csv", folder / "sent_valid.csv", source="csv")
        },
        "train": {"epochs": 4, "tokens_per_step": 2048, "learning_rate": 5.0e-4},
        "compress": EXPORT,
    }
    figures = run_tree(tree, cwd=tmp_path, timeout=1400)
    with (folder / "sent_valid.csv").open(encoding="utf-8") as file:
        counts = Counter(row["label"] for row in csv.DictReader(file))
    constant = max(counts.values()) / sum(counts.values())
    quality = {name: figures[f"bundle-{name}"]["quality"] for name in ("trained", "int8")}
    print("twitter_financial", {"best constant guess": constant, **quality})
    assert quality["trained"]["accuracy"] >= 0.86
    assert quality["int8"]["accuracy"] >= quality["trained"]["accuracy"] - 0.01


@pytest.mark.timeout(1500)
def test_biomedical_entities(tmp_path: Path):
    folder = DATA / "bc5cdr"
    tree = {
        "name": "biomedical",
        "model": "embedded/minilm",
        "tasks": {"entity": {"kind": "token_classification", "max_length": 256}},
        "data": {"entity": files(folder / "train.tsv", folder / "test.tsv", source="conll")},
        "train": {"epochs": 3, "tokens_per_step": 2048, "learning_rate": 7.0e-4},
        "compress": EXPORT | {"budget": {"f1": -0.02}},
    }
    figures = run_tree(tree, cwd=tmp_path, timeout=1400)
    quality = {name: figures[f"bundle-{name}"]["quality"] for name in ("trained", "int8")}
    print("bc5cdr", json.dumps(quality))
    assert quality["trained"]["f1"] >= 0.78
    assert quality["int8"]["f1"] >= quality["trained"]["f1"] - 0.02


NUM_REVIEWS = 20_000
NUM_HELD_OUT = 2_000


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    """A folder with a training and a test file of different reviews."""
    folder = tmp_path_factory.mktemp("reviews")
    lines = (DATA / "shopping_reviews_zh" / "reviews.jsonl").read_text(encoding="utf-8")
    rows = list(dict.fromkeys(lines.splitlines()))
    random.Random(0).shuffle(rows)
    held_out, rest = rows[:NUM_HELD_OUT], rows[NUM_HELD_OUT : NUM_HELD_OUT + NUM_REVIEWS]
    (folder / "test.jsonl").write_text("\n".join(held_out), encoding="utf-8")
    (folder / "train.jsonl").write_text("\n".join(rest), encoding="utf-8")
    return folder


TRAIN = {"tokens_per_step": 8192, "learning_rate": 1.0e-3}


def review_tree(folder: Path, name: str, columns: dict[str, str]) -> dict[str, Any]:
    """Each task of ``columns``, which names where its labels are."""
    return {
        "name": name,
        "tasks": {task: {"kind": "sequence_classification", "max_length": 96} for task in columns},
        "data": {
            task: files(
                folder / "train.jsonl",
                folder / "test.jsonl",
                source="jsonl",
                columns={"label": column},
            )
            for task, column in columns.items()
        },
        "train": TRAIN | {"epochs": 2},
        "compress": EXPORT,
    }


@pytest.mark.timeout(3000)
def test_topic_and_sentiment_of_chinese_reviews(reviews: Path, tmp_path: Path):
    words = {"words": {"kind": "masked_language_model", "max_length": 96}}
    from_scratch = {
        "model": "embedded/tiny-bert",
        "vocab_size": 8192,
        "before": [{"name": "adapted", "tasks": words, "train": TRAIN | {"epochs": 4}}],
    }
    columns = {"topic": "topic", "sentiment": "label"}
    both = run_tree(
        review_tree(reviews, "both", columns) | from_scratch, cwd=tmp_path, timeout=1800
    )
    quality = both["bundle-trained"]["quality"]
    adapted = {"model": str(tmp_path / "runs" / "both" / "bundles" / "adapted")}
    alone = {
        task: run_tree(
            review_tree(reviews, task, {task: column}) | adapted, cwd=tmp_path, timeout=700
        )
        for task, column in columns.items()
    }
    single = {task: rows["bundle-trained"]["quality"]["accuracy"] for task, rows in alone.items()}
    print("shopping_reviews_zh", json.dumps({"both": quality, "alone": single}))
    assert quality["topic/accuracy"] >= 0.85
    assert quality["sentiment/accuracy"] >= 0.85
    assert quality["topic/accuracy"] >= single["topic"] - 0.02
    assert quality["sentiment/accuracy"] >= single["sentiment"] - 0.02
