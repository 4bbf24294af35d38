"""The page of a run, from the figures of a tiny one."""

import json
import re
from pathlib import Path

import pytest

from ray_sft.evaluation.detail import detail_of
from ray_sft.report import write_report
from ray_sft.run_folder import RunFolder, StageReport
from ray_sft.tasks import Judgement

STEPS = [
    {"event": "step", "step": n, "loss": 2.0 / n, "learning_rate": 1e-3, "gradient_norm": 1.0}
    for n in (1, 2, 3)
]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that was trained in three steps, after one training before."""
    folder = RunFolder(tmp_path / "run")
    folder.train_dir("trained").mkdir(parents=True)
    records = [*STEPS, {"event": "evaluation", "step": 3, "loss": 0.7}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder.train_dir("trained") / "metrics.jsonl").write_text(lines)
    detail = detail_of(
        [
            Judgement("card", "card", 0.9, "my card"),
            Judgement("退款", "card", 0.8, "<b>退款</b>"),
            Judgement("O", "card", float("nan"), "word"),
        ]
    )
    trainings = [
        {"name": "first", "task": "topic", "figures": [0.9, 0.8]},
        {"name": "second", "task": "topic", "figures": [0.7]},
    ]
    details = {"trainings": trainings, "tasks": {"topic": detail.model_dump(mode="json")}}
    write_report(folder, "run", [StageReport(stage="train-trained", seconds=1, details=details)])
    return folder


def test_a_training_is_drawn_with_what_lies_behind_its_figures(folder: RunFolder):
    page = (folder.path / "report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "trained, topic: labels",
        "trained, topic: the surest mistakes",
        "trained: loss",
        "trained: learning rate",
        "trained: what is left",
        "trained, topic: what is taken for what",
        "trained, topic: calibration (expected error 0.450)",
    ]
    assert page.count("<svg") == 5
    assert "&lt;b&gt;退款&lt;/b&gt;" in page
    assert "<b>退款" not in page


def test_every_number_of_the_page_is_in_the_json(folder: RunFolder):
    tree = json.loads((folder.path / "report.json").read_text())
    (stage,) = tree["stages"]
    detail = stage["details"]["tasks"]["topic"]
    assert detail["confusion"]["退款"] == {"card": 1}
    assert {row["label"] for row in detail["labels"]} == {
        "card",
        "退款",
        "micro",
        "macro",
        "weighted",
    }
    assert detail["mistakes"][0]["text"] == "<b>退款</b>"
