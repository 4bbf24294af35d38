"""Whether noise in training helps against typos: few rows, three seeds. `make test-slow`."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.e2e.real_data import DATA, needs_data, run_tree

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

ROWS_PER_INTENT = 10
SEEDS = (0, 1, 2)
ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def with_typos(text: str, rng: random.Random) -> str:
    """One slip in every third word of four letters and more; written for this test alone."""
    return " ".join(
        misspelt(word, rng) if len(word) > 3 and rng.random() < 1 / 3 else word
        for word in text.split()
    )


def misspelt(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) - 1)
    before, letter, following, after = word[:at], word[at], word[at + 1], word[at + 2 :]
    return rng.choice(
        [
            before + following + letter + after,
            before + following + after,
            before + letter + letter + following + after,
            before + neighbour(letter, rng) + following + after,
        ]
    )


def neighbour(letter: str, rng: random.Random) -> str:
    for keys in ROWS_OF_KEYS:
        if letter in keys:
            at = keys.index(letter)
            return rng.choice(keys[max(0, at - 1) : at] + keys[at + 1 : at + 2])
    return letter


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(name: str) -> list[dict[str, str]]:
    with (DATA / "banking77" / name).open(encoding="utf-8") as file:
        return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]


def few_rows(seed: int) -> list[dict[str, str]]:
    by_intent: dict[str, list[dict[str, str]]] = {}
    for row in read_rows("train.csv"):
        by_intent.setdefault(row["label"], []).append(row)
    rng = random.Random(seed)
    return [row for rows in by_intent.values() for row in rng.sample(rows, ROWS_PER_INTENT)]


@pytest.mark.timeout(2400)
def test_noise_in_training_helps_against_typos(tmp_path: Path):
    rng = random.Random(0)
    noisy = [row | {"text": with_typos(row["text"], rng)} for row in read_rows("test.csv")]
    test_file = write_rows(tmp_path / "typos.csv", noisy)
    accuracies: dict[str, list[float]] = {"none": [], "noise": []}
    for seed in SEEDS:
        train_file = write_rows(tmp_path / f"few_{seed}.csv", few_rows(seed))
        for name, augment in (
            ("none", []),
            ("noise", [{"kind": "character_noise", "copies": 2, "rate": 0.08}]),
        ):
            tree: dict[str, Any] = {
                "name": f"{name}_{seed}",
                "model": "embedded/minilm",
                "tasks": {"intent": {"kind": "sequence_classification", "max_length": 128}},
                "data": {
                    "intent": {
                        "train": {"source": "csv", "path": str(train_file)},
                        "eval": {"source": "csv", "path": str(test_file)},
                    }
                },
                "augment": augment,
                "train": {  # the same number of steps, however many rows
                    "steps": 110,
                    "tokens_per_step": 1024,
                    "learning_rate": 7.0e-4,
                    "evaluate_every": 110,
                    "checkpoint_every": 110,
                    "seed": seed,
                },
            }
            figures = run_tree(tree, cwd=tmp_path, timeout=600)
            accuracies[name].append(figures["train-trained"]["quality"]["accuracy"])
    gains = np.subtract(accuracies["noise"], accuracies["none"])
    low, high = stats.t.interval(0.95, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains))
    print(
        "augmentation", json.dumps(accuracies), f"gain {gains.mean():.4f} [{low:.4f}, {high:.4f}]"
    )
    assert gains.mean() > 0
    assert np.all(gains > -0.005)
