"""Rows and their changed copies on the way into shards: complete, in order, and counted."""

import json
from typing import Literal

import numpy as np
import pytest

from ray_sft.data import Conll, Jsonl, SampleStore, Splits, column_values, prepare
from ray_sft.data.augment import CharacterNoise, Eda, SurfaceNoise, WordEdits, copies_of
from ray_sft.data.encode import EncodeRows
from ray_sft.data.index import write_index
from ray_sft.data.rows import RowBlock, iterate_positions
from ray_sft.data.shards import write_shard
from ray_sft.models import train_tokenizer
from ray_sft.tasks import SequenceClassification
from tests.factories import AUGMENTATIONS

TASK = SequenceClassification(labels=("bill", "card"), max_length=32)
ROWS = [
    {"id": f"r{n}", "text": f"My bill {n} is wrong, please help!", "label": "bill"}
    if n % 2
    else {"id": f"r{n}", "text": f"Where is card {n}? I need it.", "label": "card"}
    for n in range(40)
]
AUGMENT = (CharacterNoise(copies=2), Eda(), SurfaceNoise(case_rate=1))


@pytest.fixture(scope="module")
def processor_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    texts = [row["text"] for row in ROWS]
    train_tokenizer(texts, vocab_size=400).save_pretrained(folder)
    return folder


def batch(rows, positions):
    block = RowBlock()
    for position, row in zip(positions, rows, strict=True):
        block.add(position, json.dumps(row), reason="" if row else "broken")
    return block.columns()


def store_of(tables, folder):
    for number, table in enumerate(tables):
        write_shard(folder, f"{number}", [table])
    write_index(folder)
    return SampleStore(folder)


def lines(store):
    """What is trained, and what is not, in order."""
    columns = (store.positions, store.copy_numbers, store.contents, store.lengths, store.weights)
    known = zip(*(column.tolist() for column in columns), strict=True)
    arrays = [
        {name: array.tolist() for name, array in example.arrays.items()} for example in store.all()
    ]
    return [*zip(known, arrays, strict=True), *store.rejected.to_pylist(), store.summary()]


def test_copies_do_not_depend_on_how_rows_are_cut_into_batches(processor_dir, tmp_path):
    actor = EncodeRows(TASK, str(processor_dir), AUGMENT, seed=5)
    found = []
    for size in (40, 7, 1):
        starts = range(0, len(ROWS), size)
        tables = [
            actor(batch(ROWS[s : s + size], range(s, min(s + size, len(ROWS))))) for s in starts
        ]
        found.append(store_of(tables[::-1], tmp_path / f"{size}"))
    assert lines(found[0]) == lines(found[1]) == lines(found[2])
    ids = np.stack([found[0].positions, found[0].copy_numbers], axis=1).tolist()
    assert ids == sorted(ids)
    assert ids[:4] == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert found[0].copies("character_noise", limit=3) == [(0, 1), (0, 2), (1, 1)]
    assert found[0].copies("eda", limit=2) == [(0, 3), (1, 3)]
    assert found[0].copies("nothing", limit=2) == []


def test_a_copy_is_the_encoded_changed_row(processor_dir, tmp_path):
    actor = EncodeRows(TASK, str(processor_dir), AUGMENT, seed=5)
    store = store_of([actor(batch(ROWS, range(40)))], tmp_path / "shards")
    examples = store.all()
    columns = zip(store.positions.tolist(), store.copy_numbers.tolist(), strict=True)
    for (position, copy), example in zip(columns, examples, strict=True):
        row = ROWS[position]
        if copy:
            row = copies_of([row], [position], AUGMENT, seed=5)[0][copy - 1].row
        (expected,) = TASK.encode([row], actor.processor)
        np.testing.assert_array_equal(example.arrays["input_ids"], expected.arrays["input_ids"])
        assert example.arrays["labels"] == expected.arrays["labels"]


def test_copies_that_say_nothing_new_are_counted_and_left_out(processor_dir, tmp_path):
    shout = SurfaceNoise(copies=3, case_rate=1, casings=("upper",), punctuation_rate=0)
    actor = EncodeRows(TASK, str(processor_dir), (shout,))
    rows = [{"text": "PAY MY BILL", "label": "bill"}, {"text": "my card", "label": "card"}]
    summary = store_of([actor(batch(rows, [0, 1]))], tmp_path / "shards").summary()
    assert (summary.num_rows, summary.num_accepted) == (2, 2)
    assert summary.num_augmented == 1, "MY CARD, once"
    assert summary.num_unchanged == 5
    assert summary.num_duplicates == 0


def test_rejected_rows_have_no_copies_and_counts_are_of_rows(processor_dir, tmp_path):
    actor = EncodeRows(TASK, str(processor_dir), AUGMENT)
    rows = [None, {"text": " ", "label": "card"}, {"text": "no label here"}, ROWS[0], ROWS[0]]
    store = store_of([actor(batch(rows, range(5)))], tmp_path / "shards")
    summary = store.summary()
    assert (summary.num_rows, summary.num_accepted, summary.num_rejected) == (5, 2, 3)
    assert sum(summary.reasons.values()) == 3
    assert summary.num_duplicates == 1
    assert set(store.rejected["copy"].to_pylist()) == {0}
    assert summary.num_augmented + summary.num_unchanged == 2 * 4
    assert summary.num_tokens == sum(e.length for e in store.all())
    assert len(store) == summary.num_accepted + summary.num_augmented


class Blank(WordEdits):
    """Leaves nothing of a text."""

    kind: Literal["blank"] = "blank"

    def edit_words(self, words, protected, rng):
        del protected, rng
        return dict.fromkeys(range(len(words)), ())


def test_copies_that_the_task_cannot_use_are_counted_apart(processor_dir, tmp_path):
    actor = EncodeRows(TASK, str(processor_dir), (Blank(copies=2),))
    rows = [{"text": "card", "label": "card"}, {"text": "bill", "label": "bill"}]
    store = store_of([actor(batch(rows, [0, 1]))], tmp_path / "shards")
    summary = store.summary()
    assert (summary.num_rows, summary.num_accepted, summary.num_rejected) == (2, 2, 0)
    assert (summary.num_augmented, summary.num_rejected_copies) == (0, 4)
    assert summary.reasons == {}
    assert store.rejected["lineage"].to_pylist() == ["blank#1", "blank#2"] * 2


def write(folder, rows):
    folder.mkdir()
    for number in range(4):
        text = "".join(json.dumps(row) + "\n" for row in rows[number::4])
        (folder / f"{number}.jsonl").write_text(text)
    return Jsonl(path=str(folder))


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("local_ray")
def test_workers_change_no_row_and_evaluation_is_never_augmented(processor_dir, tmp_path):
    """Against the same rows encoded here, in one batch, without Ray."""
    train = write(tmp_path / "rows", ROWS)
    evaluation = Jsonl(path=train.path, skip=3, take=17)
    augment = [make() for make in AUGMENTATIONS.values()]
    summary = prepare(
        TASK,
        Splits(train=train, eval=evaluation),
        processor_dir=processor_dir,
        out_dir=tmp_path / "out",
        num_tasks=2,
        augment=augment,
        seed=9,
    )
    for name, source, operations in (("train", train, augment), ("eval", evaluation, ())):
        positions, rows = zip(*iterate_positions(source), strict=True)
        table = EncodeRows(TASK, str(processor_dir), operations, seed=9)(batch(rows, positions))
        alone = store_of([table], tmp_path / f"alone-{name}")
        assert lines(SampleStore(tmp_path / "out" / name)) == lines(alone)
    counts, untouched = summary.splits["train"], summary.splits["eval"]
    assert (counts.num_rows, counts.num_accepted, counts.num_rejected) == (40, 40, 0)
    assert counts.num_augmented + counts.num_unchanged == 40 * len(augment)
    assert counts.num_augmented > 40
    assert (untouched.num_rows, untouched.num_accepted) == (17, 17)
    assert (untouched.num_augmented, untouched.num_unchanged) == (0, 0)
    assert summary.num_shared == 17
    texts = {row["text"] for row in ROWS}
    for operation in augment:
        changes = summary.augmentations[operation.kind]
        assert len(changes) == 3
        for change in changes:
            assert change.before in texts
            assert change.after not in ("", change.before)


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("local_ray")
def test_values_of_lists_count_one_by_one(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("In\tO\nRome\tB-LOC\n\nAnn\tB-PER\n\nbroken\n\nto\tO\n")
    source = Conll(path=str(path))
    assert column_values(source, ("tags",)) == {"tags": ["B-LOC", "B-PER", "O"]}
    first = source.model_copy(update={"take": 1})
    assert column_values(first, ("tags", "none")) == {"tags": ["B-LOC", "O"], "none": []}
