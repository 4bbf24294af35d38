"""Groups of bank intents learned one after another, and what is left. `make test-slow`."""

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.real_data import DATA, needs_data, run_tree

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

NUM_GROUPS = 7
SETTINGS: dict[str, dict[str, Any]] = {
    "naive": {},
    "replay": {"replay": 1.0},
    "ewc": {"ewc": {"weight": 100.0}},
    "learning_without_forgetting": {"learning_without_forgetting": {}},
    "replay_and_lwf": {"replay": 0.5, "learning_without_forgetting": {}},
}
ENOUGH = 0.5
"""The share of naive forgetting that the best of replay and EWC may leave."""


def write_groups(folder: Path) -> None:
    """The rows of eleven intents each, which are drawn: neighbours in the alphabet are alike."""
    for split in ("train", "test"):
        with (DATA / "banking77" / f"{split}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        intents = sorted({row["category"] for row in rows})
        random.Random(0).shuffle(intents)
        for group in range(NUM_GROUPS):
            with (folder / f"{split}_{group}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["text", "label"])
                chosen = set(intents[group::NUM_GROUPS])
                writer.writerows(
                    [row["text"], row["category"]] for row in rows if row["category"] in chosen
                )


def stage(folder: Path, group: int, continual: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "tasks": {"intent": {"kind": "sequence_classification", "max_length": 64}},
        "data": {
            "intent": {
                name: {"source": "csv", "path": str(folder / f"{split}_{group}.csv")}
                for name, split in (("train", "train"), ("eval", "test"))
            }
        },
        "train": {
            "epochs": 4,
            "tokens_per_step": 1024,
            "learning_rate": 5.0e-4,
            "evaluate_every": 10_000,
            "checkpoint_every": 10_000,
        },
        "continual": continual if group else None,
    }


@pytest.mark.timeout(5400)
def test_replay_or_ewc_halves_what_naive_training_forgets(tmp_path: Path):
    write_groups(tmp_path)
    forgetting = {}
    for name, continual in SETTINGS.items():
        *before, last = [stage(tmp_path, group, continual) for group in range(NUM_GROUPS)]
        tree = {
            "name": name,
            "model": "embedded/minilm",
            "before": [one | {"name": f"group_{group}"} for group, one in enumerate(before)],
            **last,
        }
        found = run_tree(tree, cwd=tmp_path, timeout=2400)["train-trained"]["quality"]
        forgetting[name] = found["forgetting"]
        print(
            f"{name}: average accuracy {found['average_accuracy']:.4f}, forgetting "
            f"{found['forgetting']:.4f}, backward transfer {found['backward_transfer']:.4f}",
            flush=True,
        )
    assert min(forgetting["replay"], forgetting["ewc"]) <= ENOUGH * forgetting["naive"]
