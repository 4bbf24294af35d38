"""The data stage on a real Ray Data: nothing lost, nothing reordered, everything counted."""

import json

import pytest

from ray_sft.core import DataError, validate
from ray_sft.data import (
    Csv,
    Quality,
    SampleStore,
    Splits,
    iterate_rows,
    prepare,
    resolve_task,
    write_rejected,
)
from ray_sft.data.augment import Eda, SurfaceNoise
from ray_sft.data.rows import position_of
from ray_sft.models import train_tokenizer
from ray_sft.tasks import SequenceClassification

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("local_ray"),
]


@pytest.fixture(scope="module")
def processor_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    train_tokenizer(
        ["a question about a card or a bill number"] * 9, vocab_size=300
    ).save_pretrained(folder)
    return folder


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,text,label\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return str(path)


def rows(first, count):
    return [
        (
            f"r{n}",
            f"question {n} about a {'card' if n % 2 else 'bill'}",
            "card" if n % 2 else "bill",
        )
        for n in range(first, first + count)
    ]


def test_every_row_is_accepted_in_order_or_rejected_with_a_reason(tmp_path, processor_dir):
    bad = [("bad1", " ", "card"), ("bad2", "no label here", ""), ("bad3",)]
    write(tmp_path / "train" / "a.csv", rows(0, 300) + bad)
    write(tmp_path / "train" / "b.csv", rows(300, 200))
    evaluation = write(tmp_path / "eval.csv", [*rows(500, 20), *rows(0, 2)])
    splits = Splits(train=Csv(path=str(tmp_path / "train")), eval=Csv(path=evaluation))
    task = resolve_task(SequenceClassification(max_length=8), splits, name="topic")
    assert task.labels == ("bill", "card")
    summary = prepare(
        task, splits, processor_dir=processor_dir, out_dir=tmp_path / "out", num_tasks=2
    )
    train = summary.splits["train"]
    assert (train.num_rows, train.num_accepted, train.num_rejected) == (503, 500, 3)
    assert train.num_truncated > 0
    assert summary.num_shared == 2
    store = SampleStore(tmp_path / "out" / "train")
    expected = [position_of(0, n) for n in range(300)] + [position_of(1, n) for n in range(200)]
    assert store.positions.tolist() == expected
    assert [int(e.arrays["labels"]) for e in store.examples([0, 1, 499])] == [0, 1, 1]
    assert all(e.length == len(e.arrays["input_ids"]) for e in store.all())
    path = tmp_path / "rejected.jsonl"
    assert write_rejected([("topic/train", tmp_path / "out" / "train")], path) == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["bad1", "bad2", ""]
    assert {line["lineage"] for line in lines} == {""}
    assert lines[0]["reason"] == "text is missing or empty"
    assert lines[2]["reason"] == "1 fields where the header has 3"


def test_sources_are_divided_filtered_and_weighted(tmp_path, processor_dir):
    everything = write(tmp_path / "all.csv", [*rows(0, 300), ("short",)])
    more = write(tmp_path / "more.csv", rows(300, 50))
    tree = {
        "train": [
            {"source": "csv", "path": everything, "portion": {"by": ["id"], "stop": 0.8}},
            {"source": "csv", "path": more, "where": "label == 'card'", "weight": 2.5},
        ],
        "eval": {"source": "csv", "path": everything, "portion": {"by": ["id"], "start": 0.8}},
    }
    splits = validate(Splits, tree, what="splits")
    task = resolve_task(SequenceClassification(), splits, name="topic")
    summary = prepare(
        task, splits, processor_dir=processor_dir, out_dir=tmp_path / "out", num_tasks=2
    )
    train, evaluation = summary.splits["train"], summary.splits["eval"]
    assert summary.num_shared == 0
    assert train.num_accepted - 25 + evaluation.num_accepted == 300
    assert 220 < train.num_accepted - 25 < 260
    assert train.num_left_out == evaluation.num_accepted + 25
    assert evaluation.num_left_out == train.num_accepted - 25
    assert (train.num_rejected, evaluation.num_rejected) == (1, 1)  # a row without an id
    assert train.num_rows == train.num_accepted + 1
    store = SampleStore(tmp_path / "out" / "train")
    assert store.weights.tolist() == [1.0] * (train.num_accepted - 25) + [2.5] * 25


def test_rows_that_say_the_same_are_removed_where_the_recipe_asks(tmp_path, processor_dir):
    given = rows(0, 30)
    train = [
        *given,
        ("again", given[3][1], "card"),
        ("near", "  " + given[4][1].upper(), "bill"),
        ("mail", "question of jo@example.com", "bill"),
        ("leak", "question 99 about a card", "card"),
        ("long", "question " * 20, "card"),
    ]
    splits = Splits(
        train=Csv(path=write(tmp_path / "train.csv", train)),
        eval=Csv(path=write(tmp_path / "eval.csv", [("e", "question 99 about a card", "card")])),
    )
    quality = Quality(duplicates="near", leaks="remove", mask=("email",), max_chars=100)
    task = SequenceClassification(labels=("bill", "card"))

    def found(quality, name):
        out_dir = tmp_path / name
        summary = prepare(
            task,
            splits,
            processor_dir=processor_dir,
            out_dir=out_dir,
            num_tasks=1,
            quality=quality,
            augment=(SurfaceNoise(),),
        )
        path = tmp_path / f"{name}.jsonl"
        write_rejected([("topic/train", out_dir / "train")], path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return summary, {line["id"]: line for line in lines}

    everything, none = found(Quality(), "all")
    assert none == {}
    assert everything.splits["train"].num_duplicates == 1
    assert everything.num_shared == 1
    summary, rejected = found(quality, "clean")
    assert summary.num_shared == 0
    assert summary.splits["train"].num_rejected == 4
    assert {row_id: (line["reason"], line.get("same_as")) for row_id, line in rejected.items()} == {
        "again": ("says the same as an earlier row", {"file": 0, "row": 3}),
        "near": ("says the same as an earlier row", {"file": 0, "row": 4}),
        "leak": ("says the same as a row of evaluation", {"file": 0, "row": 0}),
        "long": ("longer than 100 characters", None),
    }
    assert summary.splits["train"].num_augmented > 0
    store = SampleStore(tmp_path / "clean" / "train")
    assert set(store.positions.tolist()) == {*range(30), 32}


def test_what_is_shown_of_the_rows_is_masked_too(tmp_path, processor_dir):
    masked = "question of [EMAIL] about a card"
    train = [*rows(0, 4), ("mail", "question of jo@example.com about a card", "card")]
    path = write(tmp_path / "train.csv", train[::-1])
    splits = Splits(train=Csv(path=path), eval=Csv(path=path))
    quality = Quality(mask=("email",), min_chars=5)
    summary = prepare(
        SequenceClassification(labels=("bill", "card")),
        splits,
        processor_dir=processor_dir,
        out_dir=tmp_path / "out",
        num_tasks=1,
        quality=quality,
        augment=(Eda(),),
    )
    shown = summary.augmentations["eda"]
    assert shown[0].before == masked
    assert "jo@" not in summary.model_dump_json()
    assert next(iterate_rows(splits.train, quality))["text"] == masked
    assert not list(iterate_rows(splits.train, Quality(max_chars=5)))


@pytest.mark.parametrize("quality", [Quality(duplicates="near"), Quality(leaks="remove")])
def test_duplicates_among_no_usable_rows_are_none(tmp_path, processor_dir, quality):
    path = write(tmp_path / "a.csv", [("a", " ", "card"), ("b", " ", "card")])
    splits = Splits(train=Csv(path=path), eval=Csv(path=path))
    task = SequenceClassification(labels=("bill", "card"))
    with pytest.raises(DataError, match="none of the 2 rows can be used"):
        prepare(
            task,
            splits,
            processor_dir=processor_dir,
            out_dir=tmp_path / "out",
            num_tasks=1,
            quality=quality,
        )


def test_leaving_out_every_row_is_an_error(tmp_path, processor_dir):
    path = write(tmp_path / "a.csv", rows(0, 10))
    splits = Splits(train=Csv(path=path, where="label == 'none'"), eval=Csv(path=path))
    task = SequenceClassification(labels=("bill", "card"))
    with pytest.raises(DataError, match="leave out all of the 10 rows"):
        prepare(task, splits, processor_dir=processor_dir, out_dir=tmp_path / "out", num_tasks=1)


def test_a_label_that_only_evaluation_has_is_named(tmp_path):
    splits = Splits(
        train=Csv(path=write(tmp_path / "train.csv", rows(0, 4))),
        eval=Csv(path=write(tmp_path / "eval.csv", [("x", "hello", "cards")])),
    )
    with pytest.raises(DataError, match=r"eval data has label 'cards'.*Did you mean 'card'"):
        resolve_task(SequenceClassification(), splits, name="topic")


def test_broken_quoting_is_one_clear_error_out_of_a_worker(tmp_path):
    broken = tmp_path / "train.csv"
    broken.write_text('text,label\nfine,card\n"open,bill\n')
    splits = Splits(train=Csv(path=str(broken)), eval=Csv(path=str(broken)))
    with pytest.raises(DataError, match="quoting is broken in the row that begins in line 3") as e:
        resolve_task(SequenceClassification(), splits, name="topic")
    with pytest.raises(DataError) as alone:
        list(iterate_rows(splits.train))
    assert str(e.value) == str(alone.value), "as it is without Ray"


def test_no_usable_row_is_an_error_with_the_most_frequent_reason(tmp_path, processor_dir):
    path = write(tmp_path / "train.csv", [("1", " ", "card"), ("2", " ", "bill")])
    splits = Splits(train=Csv(path=path), eval=Csv(path=path))
    task = SequenceClassification(labels=("bill", "card"))
    with pytest.raises(DataError, match=r"none of the 2 rows can be used.*text is missing"):
        prepare(task, splits, processor_dir=processor_dir, out_dir=tmp_path / "o", num_tasks=1)
