"""Writes all sample files beside itself: `python -m ray_sft.samples.generate`.

The same seed gives the same bytes. Nothing here is drawn from a public data set.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ray_sft.samples import SAMPLES_DIR
from ray_sft.samples.derived import (
    EntityRow,
    PairRow,
    RankingRow,
    entity_rows,
    item_pairs,
    question_pairs,
    ranking_rows,
)
from ray_sft.samples.dialogues import Dialogue, dialogues
from ray_sft.samples.market import market_rows
from ray_sft.samples.material_reader import Split
from ray_sft.samples.shop import interactions, items
from ray_sft.samples.support import answer_rows, question_rows

__all__ = ["FILE_NAMES", "SEED", "write_samples"]

SEED = 20250303

FILE_NAMES: tuple[str, ...] = (
    "support_train.csv",
    "support_test.csv",
    "support_answers.jsonl",
    "support_dialogues_train.jsonl",
    "support_dialogues_test.jsonl",
    "market_train.csv",
    "market_test.csv",
    "market_entities_train.jsonl",
    "market_entities_test.jsonl",
    "items.csv",
    "interactions.csv",
    "shop_ranking_train.jsonl",
    "shop_ranking_test.jsonl",
    "shop_pairs_train.jsonl",
    "shop_pairs_test.jsonl",
    "support_pairs_train.jsonl",
    "support_pairs_test.jsonl",
)


def write_samples(folder: Path, *, seed: int = SEED) -> None:
    """Writes every file of `FILE_NAMES` into an existing folder."""
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        _write_support(folder, split, seed)
        _write_market(folder, split, seed)
        _write_derived(folder, split, seed)
    _write_answers(folder)
    _write_shop(folder, seed)


def _write_support(folder: Path, split: Split, seed: int) -> None:
    _write_csv(
        folder / f"support_{split}.csv",
        ("id", "text", "intent", "language"),
        ((row.id, row.text, row.intent, row.language) for row in question_rows(split, seed=seed)),
    )
    _write_jsonl(
        folder / f"support_dialogues_{split}.jsonl",
        (_dialogue_record(dialogue) for dialogue in dialogues(split, seed=seed)),
    )


def _dialogue_record(dialogue: Dialogue) -> dict[str, object]:
    return {
        "id": dialogue.id,
        "language": dialogue.language,
        "intent": dialogue.intent,
        "messages": [{"role": m.role, "content": m.content} for m in dialogue.messages],
    }


def _write_answers(folder: Path) -> None:
    _write_jsonl(
        folder / "support_answers.jsonl",
        (
            {
                "id": row.id,
                "intent": row.intent,
                "language": row.language,
                "question": row.question,
                "answer": row.answer,
            }
            for row in answer_rows()
        ),
    )


def _write_market(folder: Path, split: Split, seed: int) -> None:
    _write_csv(
        folder / f"market_{split}.csv",
        ("id", "time", "topic", "sentiment", "text"),
        (
            (row.id, row.time.isoformat(), row.topic, row.sentiment, row.text)
            for row in market_rows(split, seed=seed)
        ),
    )


def _write_derived(folder: Path, split: Split, seed: int) -> None:
    files: dict[str, Iterable[EntityRow | RankingRow | PairRow]] = {
        "market_entities": entity_rows(split, seed=seed),
        "shop_ranking": ranking_rows(split, seed=seed),
        "shop_pairs": item_pairs(split, seed=seed),
        "support_pairs": question_pairs(split, seed=seed),
    }
    for name, rows in files.items():
        _write_jsonl(folder / f"{name}_{split}.jsonl", (asdict(row) for row in rows))


def _write_shop(folder: Path, seed: int) -> None:
    _write_csv(
        folder / "items.csv",
        ("item_id", "title", "category", "description", "price"),
        ((i.item_id, i.title, i.category, i.description, i.price) for i in items()),
    )
    _write_csv(
        folder / "interactions.csv",
        ("user_id", "item_id", "time", "event", "rating"),
        (
            (row.user_id, row.item_id, row.time.isoformat(), row.event, row.rating or "")
            for row in interactions(seed=seed)
        ),
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_jsonl(path: Path, records: Iterable[dict[str, object]]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_samples(SAMPLES_DIR)
