"""Several sources as one: order, positions, and the rules of each."""

import json

import pytest

from ray_sft.core import DataError, validate
from ray_sft.data import Splits, check_columns, iterate_rows
from ray_sft.data.rows import iterate_positions, position_of
from ray_sft.tasks import SequenceClassification


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a").mkdir()
    for name, numbers in (("a/1", (0, 1)), ("a/2", (2, 3, 4))):
        lines = [json.dumps({"n": n}) for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.csv").write_text("n\n5\n6\n7\n")
    return tmp_path


def splits(train, evaluation=None):
    tree = {"train": train, "eval": evaluation or train}
    return validate(Splits, tree, what="splits")


def test_a_list_is_read_one_source_after_the_other(files):
    source = splits(
        [
            {"source": "jsonl", "path": f"{files}/a", "skip": 1, "columns": {"text": "n"}},
            {"source": "csv", "path": f"{files}/b.csv", "where": "n != '6'"},
        ]
    ).train
    assert [row["n"] for row in iterate_rows(source)] == [1, 2, 3, 4, "5", "7"]
    positions = [position for position, _ in iterate_positions(source)]
    assert positions == [
        position_of(0, 1),
        *(position_of(1, index) for index in range(3)),
        position_of(2, 0),
        position_of(2, 2),
    ]
    assert source.title == f"{files}/a + {files}/b.csv"


def test_each_source_is_checked_under_its_own_number(files):
    task = SequenceClassification(labels=("x", "y"))
    (files / "good.csv").write_text("text,label\nhi,x\n")
    both = [
        {"source": "csv", "path": f"{files}/good.csv"},
        {"source": "csv", "path": f"{files}/b.csv", "columns": {"text": "n"}},
    ]
    with pytest.raises(DataError, match=r"dataset 'train\[1\]' has no column 'label'"):
        check_columns("train", splits(both).train, task)


def test_settings_belong_to_the_single_sources():
    tree = {"source": "several", "sources": [{"source": "csv", "path": "b.csv"}], "take": 3}
    with pytest.raises(Exception, match="'take' belongs to the single sources"):
        splits(tree)


def test_the_fingerprint_follows_every_source(files):
    def prints(**changes):
        single = {"source": "csv", "path": f"{files}/b.csv"}
        return splits([single, single | changes], single).train.fingerprint()

    assert prints() == prints()
    assert prints() != prints(take=1)
    assert prints() != prints(weight=2)


def test_evaluation_has_no_weights(files):
    csv = {"source": "csv", "path": f"{files}/b.csv"}
    for evaluation in (csv | {"weight": 2}, [csv, csv | {"weight": 2}]):
        with pytest.raises(Exception, match="a weight belongs to training"):
            splits(csv, evaluation)


def test_a_mapping_is_kept_for_the_columns_that_a_task_reads():
    both = [{"source": "csv", "path": "b.csv", "columns": {"text": "n", "label": "n"}}] * 2
    kept = splits(both).mapping(["text"])
    assert [source.columns for source in kept.train.sources] == [{"text": "n"}] * 2
