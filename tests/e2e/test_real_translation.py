"""Two translators from scratch on Tatoeba, and texts said anew by way of Chinese. `make test-slow`.

They see 25,700 short pairs, so they translate poorly; what counts here is that all of it works,
and what it brings, whatever the sign.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from ray_sft.inference.translator import Translator
from tests.e2e.real_data import DATA, needs_data, run_tree
from tests.e2e.test_real_augmentation import (
    CHANCE,
    SEEDS,
    accuracy,
    few_rows,
    gain,
    read_rows,
    write_rows,
)

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

PAIRS = DATA / "tatoeba_en_zh" / "pairs.jsonl"
HELD_OUT = 2
"""Of a hundred, by a hash of the English sentence."""
LEAST_CHRF = {"en_zh": 5.0, "zh_en": 20.0}
"""Far above a translator that has learned nothing, far below a good one."""


def _is_held_out(pair: dict[str, str]) -> bool:
    return int(hashlib.sha256(pair["en"].encode()).hexdigest(), 16) % 100 < HELD_OUT


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A folder with training pairs in random order, and test pairs that share no side with them."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    test = [row for row in rows if _is_held_out(row)]
    known = {row["zh"] for row in test}
    train = [row for row in rows if not _is_held_out(row) and row["zh"] not in known]
    random.Random(0).shuffle(train)
    for name, chosen in (("train", train), ("test", test)):
        lines = [json.dumps({"en": r["en"], "zh": r["zh"]}, ensure_ascii=False) for r in chosen]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def translators(pairs) -> Iterator[dict[str, Path]]:
    """The bundles of both directions."""
    found = {}
    for text, translation in (("en", "zh"), ("zh", "en")):
        name = f"{text}_{translation}"
        columns = {"text": text, "translation": translation}
        splits = {
            "train": {"source": "jsonl", "path": str(pairs / "train.jsonl"), "columns": columns},
            "eval": {"source": "jsonl", "path": str(pairs / "test.jsonl"), "columns": columns},
        }
        tree: dict[str, Any] = {
            "name": name,
            "model": "embedded/tiny-pegasus",
            "vocab_size": 4000,
            "tasks": {name: {"kind": "translation", "max_length": 96}},
            "data": {name: splits},
            "train": {
                "epochs": 6,
                "tokens_per_step": 2048,
                "learning_rate": 1.0e-3,
                "warmup": 0.05,
            },
        }
        figures = run_tree(tree, cwd=pairs, timeout=3600)
        print(name, figures["train-trained"]["quality"])
        found[name] = pairs / "runs" / name / "bundles" / "trained"
    return found


@pytest.mark.timeout(7800)
def test_translators_from_scratch_have_learned_something(translators, pairs):
    rows = [json.loads(line) for line in (pairs / "test.jsonl").read_text().splitlines()]
    for name, bundle in translators.items():
        text, translation = name.split("_")
        found = Translator.load(str(bundle)).translate([row[text] for row in rows])
        references = [[row[translation] for row in rows]]
        chrf = sacrebleu.corpus_chrf(found, references).score
        tokens = "zh" if translation == "zh" else "13a"
        bleu = sacrebleu.corpus_bleu(found, references, tokenize=tokens).score
        empty = sum(not one for one in found) / len(found)
        print(f"{name}: chrF {chrf:.1f}, BLEU {bleu:.1f}, {empty:.3f} without an answer")
        for row, one in list(zip(rows, found, strict=True))[:: len(rows) // 8]:
            print("   ", row[text], "->", one)
        assert chrf > LEAST_CHRF[name]


@pytest.mark.timeout(3600)
def test_what_back_translation_brings(translators, tmp_path):
    """Banking77 with 10 rows an intent; a table, whatever the sign."""
    test_file = write_rows(tmp_path / "test.csv", read_rows("test.csv"))
    models = {"there": str(translators["en_zh"]), "back": str(translators["zh_en"])}
    operation = {"kind": "back_translation", "copies": 2, **models}
    found: dict[str, list[float]] = {"none": [], "back_translation": []}
    for seed in SEEDS:
        files = write_rows(tmp_path / f"few_{seed}.csv", few_rows(seed)), test_file
        for name, augment in (("none", []), ("back_translation", [operation])):
            found[name].append(accuracy(name, augment, files=files, seed=seed))
    mean, low, high = gain(found["back_translation"], found["none"])
    print("back_translation", json.dumps(found), f"gain {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    assert min(found["back_translation"]) > CHANCE
