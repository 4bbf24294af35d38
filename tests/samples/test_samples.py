"""The sample rows: sizes, splits that share no wording, and files that the generator reproduces."""

import csv
import json
import re
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from ray_sft.samples import SAMPLES_DIR
from ray_sft.samples.dialogues import dialogues
from ray_sft.samples.generate import FILE_NAMES, SEED, write_samples
from ray_sft.samples.market import NUM_DAYS, START, SURGES, market_rows
from ray_sft.samples.material_reader import Language, Phrasing, read_phrasings
from ray_sft.samples.shop import Event
from ray_sft.samples.support import question_rows
from ray_sft.samples.wording import normalized

MAX_TOTAL_BYTES = 2_000_000
LANGUAGES = get_args(Language)
PHRASING_FILES = [
    f"{name}_{language}"
    for name in ("support_orders", "support_account", "market")
    for language in LANGUAGES
]


def rows_of(name: str) -> list[dict[str, str]]:
    with (SAMPLES_DIR / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def records_of(name: str) -> list[dict[str, Any]]:
    text = (SAMPLES_DIR / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def tokens(text: str) -> frozenset[str]:
    """Words of three and more letters, and Chinese character pairs."""
    chinese = re.findall(r"[\u4e00-\u9fff]+", text)
    bigrams = {run[i : i + 2] for run in chinese for i in range(len(run) - 1)}
    return frozenset(re.findall(r"[a-z']{3,}", text.lower())) | bigrams


def overlap(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / max(1, len(left | right))


def nearest_neighbour_accuracy(
    train: list[dict[str, str]], test: list[dict[str, str]], *, label: str
) -> float:
    """Accuracy of copying the label of the training row with the largest Jaccard overlap."""
    known = [(tokens(row["text"]), row[label]) for row in train]
    hits = 0
    for row in test:
        words = tokens(row["text"])
        hits += max(known, key=lambda pair: overlap(words, pair[0]))[1] == row[label]
    return hits / len(test)


def test_all_files_exist_and_stay_under_two_megabytes() -> None:
    assert all((SAMPLES_DIR / name).is_file() for name in FILE_NAMES)
    everything = (path for path in SAMPLES_DIR.rglob("*") if "__pycache__" not in path.parts)
    assert sum(path.stat().st_size for path in everything if path.is_file()) < MAX_TOTAL_BYTES


def test_generating_again_gives_identical_bytes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILE_NAMES)
    for name in FILE_NAMES:
        assert (tmp_path / name).read_bytes() == (SAMPLES_DIR / name).read_bytes(), name


@pytest.mark.parametrize(("kind", "num_train", "num_test"), [
    ("support", 1896, 480),
    ("market", 1200, 300),
])  # fmt: skip
def test_no_text_is_repeated_within_or_across_splits(
    kind: str, num_train: int, num_test: int
) -> None:
    train, test = rows_of(f"{kind}_train.csv"), rows_of(f"{kind}_test.csv")
    assert (len(train), len(test)) == (num_train, num_test)
    texts = [normalized(row["text"]) for row in train + test]
    assert [text for text, count in Counter(texts).items() if count > 1] == []
    ids = [row["id"] for row in train + test]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", PHRASING_FILES)
def test_held_out_phrasings_differ_from_training_phrasings(name: str) -> None:
    phrasings = read_phrasings(name)
    train = [tokens(p.template) for p in phrasings if p.split == "train"]
    for held_out in (p.template for p in phrasings if p.split == "test"):
        words = tokens(held_out)
        assert max(overlap(words, other) for other in train) < 0.6, held_out


def test_rows_of_a_split_use_only_phrasings_of_that_split() -> None:
    used: dict[str, list[Phrasing]] = {
        "train": [row.phrasing for row in question_rows("train", seed=SEED)],
        "test": [row.phrasing for row in question_rows("test", seed=SEED)],
    }
    used["train"] += [row.phrasing for row in market_rows("train", seed=SEED)]
    used["test"] += [row.phrasing for row in market_rows("test", seed=SEED)]
    used["train"] += [dialogue.phrasing for dialogue in dialogues("train", seed=SEED)]
    used["test"] += [dialogue.phrasing for dialogue in dialogues("test", seed=SEED)]
    for split, phrasings in used.items():
        assert {phrasing.split for phrasing in phrasings} == {split}
    templates = {split: {p.template for p in phrasings} for split, phrasings in used.items()}
    assert templates["train"].isdisjoint(templates["test"])


def test_every_intent_is_in_both_splits_and_answered_in_both_languages() -> None:
    expected = {(row["intent"], row["language"]) for row in rows_of("support_train.csv")}
    assert len({intent for intent, _ in expected}) >= 20
    assert {language for _, language in expected} == set(LANGUAGES)
    for records in (
        rows_of("support_test.csv"),
        records_of("support_answers.jsonl"),
        records_of("support_dialogues_train.jsonl"),
        records_of("support_dialogues_test.jsonl"),
    ):
        assert {(record["intent"], record["language"]) for record in records} == expected


@pytest.mark.parametrize("name", [name for name in FILE_NAMES if name.startswith("support_")])
def test_no_slot_or_choice_is_left_open(name: str) -> None:
    if name.endswith(".csv"):
        texts = [row["text"] for row in rows_of(name)]
    elif "answers" in name:
        texts = [record["answer"] for record in records_of(name)]
    elif "pairs" in name:
        texts = [
            text
            for record in records_of(name)
            for text in (record["text"], record["positive"], *record["negatives"])
        ]
    else:
        texts = [m["content"] for record in records_of(name) for m in record["messages"]]
    assert all(text.strip() == text and text for text in texts)
    assert [text for text in texts if re.search(r"[{}\[\]|]|=>", text)] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_dialogues_alternate_and_end_with_the_assistant(split: str) -> None:
    for record in records_of(f"support_dialogues_{split}.jsonl"):
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 1 <= roles.count("user") <= 4


def test_opening_questions_of_test_dialogues_are_not_in_training_dialogues() -> None:
    def openings(split: str) -> set[str]:
        return {
            normalized(message["content"])
            for record in records_of(f"support_dialogues_{split}.jsonl")
            for message in record["messages"]
            if message["role"] == "user" and len(message["content"]) > 40
        }

    follow_ups = openings("train") & openings("test")
    assert all(len(text) < 60 for text in follow_ups)


def test_market_times_lie_in_the_sixty_days_and_are_sorted() -> None:
    for name in ("market_train.csv", "market_test.csv"):
        times = [datetime.fromisoformat(row["time"]) for row in rows_of(name)]
        assert all(early <= late for early, late in pairwise(times))
        assert times[0] >= START
        assert (times[-1] - START).days < NUM_DAYS
        assert all(time.tzinfo == UTC for time in times)


def test_market_surges_are_mostly_negative_and_much_denser_than_other_days() -> None:
    rows = rows_of("market_train.csv")
    for surge in SURGES:
        days = [
            ((datetime.fromisoformat(row["time"]) - START).days, row["sentiment"])
            for row in rows
            if row["topic"] == surge.topic
        ]
        inside = [label for day, label in days if surge.first_day <= day < surge.last_day]
        per_day = len(inside) / (surge.last_day - surge.first_day)
        outside_per_day = (len(days) - len(inside)) / NUM_DAYS
        assert inside.count("negative") / len(inside) > 0.8
        assert per_day > 4 * outside_per_day


def test_interactions_name_known_items_and_rate_purchases_only() -> None:
    item_ids = {row["item_id"] for row in rows_of("items.csv")}
    events = rows_of("interactions.csv")
    assert {row["item_id"] for row in events} <= item_ids
    assert {row["event"] for row in events} == set(get_args(Event))
    for row in events:
        datetime.fromisoformat(row["time"])
        assert (row["rating"] in "12345" and row["rating"] != "") == (row["event"] == "purchase")


def test_users_buy_mostly_from_two_categories() -> None:
    category = {row["item_id"]: row["category"] for row in rows_of("items.csv")}
    bought: dict[str, Counter[str]] = {}
    for row in rows_of("interactions.csv"):
        if row["event"] == "purchase":
            bought.setdefault(row["user_id"], Counter())[category[row["item_id"]]] += 1
    top_two = sum(count for c in bought.values() for _, count in c.most_common(2))
    assert top_two / sum(c.total() for c in bought.values()) > 0.8


def test_support_split_is_not_solved_by_copying_the_most_similar_training_row() -> None:
    train, test = rows_of("support_train.csv"), rows_of("support_test.csv")
    accuracy = nearest_neighbour_accuracy(train, test, label="intent")
    assert 0.15 < accuracy < 0.9
