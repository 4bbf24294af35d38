"""The picture of the rows, on the terminal and in the report."""

import io
import json
import re

import pytest
from rich.console import Console

from ray_sft.data import DataSummary, SampleStore
from ray_sft.data.changes import Change
from ray_sft.report import write_report
from ray_sft.run_folder import RunFolder
from ray_sft.show_data import show_data
from ray_sft.stage_reports import data_report
from ray_sft.tasks import SequenceClassification
from tests.factories import tiny_processor
from tests.training.worlds import write_shards

BILL = "the bill {} is wrong and I want it to be right"
ROWS = [
    *({"id": f"r{n}", "text": f"where is card {n}", "label": "卡片"} for n in range(30)),
    *({"id": f"b{n}", "text": BILL.format(n), "label": "bill"} for n in range(9)),
    {"id": "again", "text": "where is card 3", "label": "bill"},
    {"id": "empty", "text": "", "label": "bill"},
]


@pytest.fixture
def reports(tmp_path):
    tiny_processor().save_pretrained(tmp_path / "processor")
    task = SequenceClassification(labels=("bill", "卡片"))
    write_shards(task, tmp_path / "processor", ROWS, tmp_path / "train")
    train = SampleStore(tmp_path / "train").summary()
    change = Change(before="where is <b>card</b> 3", after="whree is card 3")
    summary = DataSummary(
        splits={"train": train, "eval": train},
        num_shared=2,
        augmentations={"character_noise": [change]},
    )
    return [data_report("intent", summary)]


def test_the_summary_counts_labels_conflicts_and_lengths(reports):
    train = reports[0].details["splits"]["train"]
    assert train["labels"] == {"卡片": 30, "bill": 10}
    assert (train["num_accepted"], train["num_rejected"], train["num_conflicts"]) == (40, 1, 1)
    histogram = train["lengths"]
    assert sum(histogram["counts"]) == 40
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert histogram["edges"][-1] == train["longest"] + 1
    assert next(iter(train["languages"])) == "en"


def test_the_terminal_shows_counts_labels_changes_and_rejected_rows(reports, tmp_path):
    line = {"data": "intent/train", "file": 0, "row": 40, "id": "empty", "lineage": ""}
    (tmp_path / "rejected.jsonl").write_text(json.dumps(line | {"reason": "text is empty"}) + "\n")
    console = Console(file=io.StringIO(), width=100)
    show_data(console, reports, tmp_path / "rejected.jsonl")
    shown = console.file.getvalue()
    for expected in (
        r"intent",
        r"used +│ +40 │ +40",
        r"said before, other label +│ +1",
        r"quartiles \d+, \d+, \d+",
        r"卡片 30",
        r"2 evaluation rows stand in the training data too",
        r"character_noise: where is <b>card</b> 3",
        r"whree is card 3",
        r"rejected: intent/train, file 0, row 40 \(id empty\): text is empty",
    ):
        assert re.search(expected, shown), f"{expected} is not in\n{shown}"


def test_the_report_draws_them_and_escapes_texts(reports, tmp_path):
    write_report(RunFolder(tmp_path), "tickets", reports)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") == 8
    for heading in ("lengths", "labels", "languages", "reasons"):
        assert f"data-intent, train: {heading}" in page
    assert "卡片" in page
    assert "where is &lt;b&gt;card&lt;/b&gt; 3" in page
    assert "<b>card" not in page
    tree = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert tree["stages"][0]["details"]["splits"]["train"]["labels"]["bill"] == 10
