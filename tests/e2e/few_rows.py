"""Bank questions with ten rows an intent, trained for equal steps, compared over seeds."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tests.e2e.real_data import DATA, run_tree

__all__ = [
    "CHANCE",
    "CLASSIFY",
    "RATE",
    "SEEDS",
    "adapted_model",
    "few_rows",
    "for_steps",
    "gain",
    "read_rows",
    "table",
    "tree_of",
    "write_rows",
]

ROWS_PER_INTENT = 10
SEEDS = (0, 1, 2)
CLASSIFY = {"kind": "sequence_classification", "max_length": 128}
RATE = 7.0e-4
CHANCE = 0.05
"""Well above what guessing brings, and below anything that has learned."""


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


def for_steps(steps: int, **settings: Any) -> dict[str, Any]:
    """Settings of a training that goes by steps.

    Copies make an epoch longer: by epochs, rows without any would be trained for fewer steps.
    """
    return {
        "steps": steps,
        "evaluate_every": steps,
        "checkpoint_every": steps,
        **settings,
    }


def gain(after: list[float], before: list[float]) -> tuple[float, float, float]:
    """The mean difference over the seeds, and its 95 % interval."""
    gains = np.subtract(after, before)
    low, high = stats.t.interval(0.95, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains))
    return float(gains.mean()), float(low), float(high)


def table(what: str, accuracies: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """Prints the mean accuracy of each operation and what it gains over none; the gains."""
    gains = {name: gain(found, accuracies["none"]) for name, found in accuracies.items()}
    for name, found in accuracies.items():
        mean, low, high = gains[name]
        print(f"{what} {name}: {np.mean(found):.4f}, gain {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
        assert np.mean(found) > CHANCE
    return gains


def tree_of(
    name: str, files: tuple[Path, Path], *, task: dict[str, Any], train: dict[str, Any]
) -> dict[str, Any]:
    sources = {
        split: {"source": "csv", "path": str(file)}
        for split, file in zip(("train", "eval"), files, strict=True)
    }
    return {
        "name": name,
        "model": "embedded/minilm",
        "tasks": {"intent": task},
        "data": {"intent": sources},
        "train": {"tokens_per_step": 1024, "learning_rate": RATE, **train},
    }


def adapted_model(whole: Path, folder: Path) -> str:
    """The encoder after masked language modelling on all questions, without their labels."""
    split = {"source": "csv", "path": str(whole)}
    tree = {
        "name": "adapted",
        "model": "embedded/minilm",
        "tasks": {"text": {"kind": "masked_language_model", "max_length": 64}},
        "data": {"text": {"train": split, "eval": split | {"take": 500}}},
        "train": {"epochs": 3, "tokens_per_step": 2048, "learning_rate": 5.0e-4},
    }
    run_tree(tree, cwd=folder, timeout=1200)
    return str(folder / "runs" / "adapted" / "bundles" / "trained")
