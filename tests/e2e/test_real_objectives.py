"""What objectives, adapters and stages bring where rows are few, over three seeds.

`make test-slow`.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.few_rows import (
    CLASSIFY,
    RATE,
    SEEDS,
    adapted_model,
    few_rows,
    for_steps,
    read_rows,
    table,
    tree_of,
    write_rows,
)
from tests.e2e.real_data import needs_data, run_tree

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

STEPS = 220
SPLITS = ("train", "test")
CLOZE = {"kind": "cloze_classification", "max_length": 128}
LORA = {"kind": "lora", "rank": 8, "alpha": 16}
RATE_OF_LORA = 3.0e-3
POINT = 0.01
MOST_TRAINED = 0.03


@pytest.mark.timeout(14400)
def test_what_each_objective_adapter_and_stage_brings(tmp_path: Path):
    """A table, whatever the signs."""
    test_file = write_rows(tmp_path / "test.csv", read_rows("test.csv"))
    adapted = adapted_model(write_rows(tmp_path / "whole.csv", read_rows("train.csv")), tmp_path)
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "r_drop": {"objectives": [{"kind": "r_drop"}]},
        "fgm": {"objectives": [{"kind": "fgm"}]},
        "free_lb": {"objectives": [{"kind": "free_lb"}]},
        "lora": {"adapter": LORA},
        "domain_adaptation": {"model": adapted},
        "cloze_after_adaptation": {"model": adapted, "tasks": {"intent": CLOZE}},
    }
    found: dict[str, list[float]] = {name: [] for name in changes}
    for seed in SEEDS:
        files = write_rows(tmp_path / f"few_{seed}.csv", few_rows(seed)), test_file
        for name, change in changes.items():
            rate = RATE_OF_LORA if "adapter" in change else RATE
            train = for_steps(STEPS, learning_rate=rate, seed=seed)
            tree = tree_of(f"{name}_{seed}", files, task=CLASSIFY, train=train) | change
            figures = run_tree(tree, cwd=tmp_path, timeout=1800)["train-trained"]
            assert figures["details"]["num_steps"] == STEPS
            found[name].append(figures["quality"]["accuracy"])
            print(
                "accuracy", name, seed, found[name][-1], f"{figures['seconds']:.0f} s", flush=True
            )
    table("Banking77 with few rows", found)


@pytest.mark.timeout(3600)
def test_lora_on_all_rows_comes_near_training_everything(tmp_path: Path):
    train_file, test_file = (
        write_rows(tmp_path / f"{name}.csv", read_rows(f"{name}.csv")) for name in SPLITS
    )
    settings: dict[str, tuple[float, int, dict[str, Any]]] = {
        "whole": (5.0e-4, 5, {}),
        # few weights learn for longer
        "lora": (RATE_OF_LORA, 10, {"adapter": {"kind": "lora", "rank": 12, "alpha": 24}}),
    }
    found = {}
    for name, (rate, epochs, change) in settings.items():
        train = {"epochs": epochs, "learning_rate": rate, "tokens_per_step": 2048}
        tree = tree_of(name, (train_file, test_file), task=CLASSIFY, train=train) | change
        figures = run_tree(tree, cwd=tmp_path, timeout=1500)["train-trained"]
        found[name] = figures["quality"]["accuracy"]
        details = figures["details"]
        share = details["num_trained"] / details["num_parameters"]
        seconds = f"{figures['seconds']:.0f} s"
        print("accuracy of", name, found[name], f"{share:.2%} trained", seconds, flush=True)
    assert share < MOST_TRAINED
    assert found["lora"] > found["whole"] - POINT
