"""What changed copies bring where rows are few, over three seeds. `make test-slow`."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ray_sft.predict import evaluate_file
from tests.e2e.few_rows import (
    CHANCE,
    CLASSIFY,
    SEEDS,
    adapted_model,
    few_rows,
    for_steps,
    gain,
    read_rows,
    table,
    tree_of,
    write_rows,
)
from tests.e2e.real_data import DATA, needs_data, run_tree

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

STEPS = 220
"""Enough for the loss of few rows with copies to come down too, whose epochs are longer."""
WNUT17 = DATA / "wnut17"
SPLITS = ("train", "test")
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


def accuracy(
    name: str, augment: list[dict[str, Any]], *, files: tuple[Path, Path], seed: int
) -> float:
    """Of an intent classifier after ``STEPS`` steps, however many rows there are."""
    train = for_steps(STEPS, seed=seed)
    tree = tree_of(f"{name}_{seed}", files, task=CLASSIFY, train=train) | {"augment": augment}
    figures = run_tree(tree, cwd=files[0].parent, timeout=600)["train-trained"]
    assert figures["details"]["num_steps"] == STEPS
    return figures["quality"]["accuracy"]


@pytest.mark.timeout(5400)
def test_what_each_augmentation_brings(tmp_path: Path):
    """Tables, whatever the signs; but noise in training must help against typos."""
    test_file = write_rows(tmp_path / "test.csv", read_rows("test.csv"))
    rng = random.Random(0)
    noisy = [row | {"text": with_typos(row["text"], rng)} for row in read_rows("test.csv")]
    typo_file = write_rows(tmp_path / "typos.csv", noisy)
    masked = adapted_model(write_rows(tmp_path / "whole.csv", read_rows("train.csv")), tmp_path)
    operations: dict[str, list[dict[str, Any]]] = {
        "none": [],
        "character_noise": [{"kind": "character_noise", "copies": 2, "rate": 0.08}],
        "surface_noise": [{"kind": "surface_noise", "copies": 2}],
        "eda": [{"kind": "eda", "copies": 2}],
        "cutoff": [{"kind": "cutoff", "copies": 2}],
        "contextual": [{"kind": "contextual_replacement", "model": masked, "copies": 2}],
    }
    clean: dict[str, list[float]] = {name: [] for name in operations}
    typos: dict[str, list[float]] = {name: [] for name in operations}
    for seed in SEEDS:
        files = write_rows(tmp_path / f"few_{seed}.csv", few_rows(seed)), test_file
        for name, augment in operations.items():
            clean[name].append(accuracy(name, augment, files=files, seed=seed))
            bundle = tmp_path / "runs" / f"{name}_{seed}" / "bundles" / "trained"
            figures = evaluate_file(bundle, str(typo_file), {})
            typos[name].append(figures["accuracy"])
            print("accuracy", name, seed, clean[name][-1], typos[name][-1], flush=True)
    table("clean", clean)
    gains = table("typos", typos)
    assert gains["character_noise"][0] > 0


def entity_f1(name: str, augment: list[dict[str, Any]], *, seed: int, cwd: Path) -> float:
    """Of a tagger of WNUT-17's six types."""
    files = {split: {"source": "conll", "path": str(WNUT17 / f"{split}.conll")} for split in SPLITS}
    tree: dict[str, Any] = {
        "name": f"{name}_{seed}",
        "model": "embedded/minilm",
        "tasks": {"entity": {"kind": "token_classification", "max_length": 128}},
        "data": {"entity": {"train": files["train"], "eval": files["test"]}},
        "augment": augment,
        "train": for_steps(STEPS, tokens_per_step=2048, learning_rate=5.0e-4, seed=seed),
    }
    figures = run_tree(tree, cwd=cwd, timeout=900)["train-trained"]
    assert figures["details"]["num_steps"] == STEPS
    return figures["quality"]["f1"]


@pytest.mark.timeout(3600)
def test_what_noise_that_knows_entities_brings_to_tagging(tmp_path: Path):
    """WNUT-17, whatever the sign."""
    noise = [{"kind": "character_noise", "copies": 1}, {"kind": "surface_noise", "copies": 1}]
    found: dict[str, list[float]] = {"plain": [], "noise": []}
    for seed in SEEDS:
        for name, augment in (("plain", []), ("noise", noise)):
            found[name].append(entity_f1(name, augment, seed=seed, cwd=tmp_path))
    mean, low, high = gain(found["noise"], found["plain"])
    print("wnut17", json.dumps(found), f"gain {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    assert min(found["plain"] + found["noise"]) > CHANCE
