"""Training on rows that are streamed: the same steps on any number of workers, and resumed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch.distributed as dist

from ray_sft.core import ConfigError, validate
from ray_sft.data import Jsonl, Quality, Stream
from ray_sft.data.augment import Gate
from ray_sft.data.windows import WindowWriter
from ray_sft.recipe import Recipe
from ray_sft.training.job import Job
from tests.training.worlds import records, run_world, train

STEPS = 24


@dataclass(frozen=True)
class WrittenWhenOpened:
    """The worker's side of a stream, without the process that writes ahead."""

    stream: Stream

    def open(self, number: int) -> Path:
        dist.barrier()
        if dist.get_rank() == 0 and not self.stream.has(number):
            WindowWriter(self.stream).write(number)
        dist.barrier()
        return self.stream.window(number)

    def release(self, before: int) -> None:
        if dist.get_rank() == 0:
            self.stream.remove(before=before)
        dist.barrier()


def streamed(run, folder: Path, *, rows: int, num_bad: int = 0, **settings) -> Job:
    """A job on ``run``'s rows and bad ones, ``rows`` at a time, whose first window is written."""
    folder.mkdir()
    every = [*run.rows, *[{}] * num_bad]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in every))
    (folder / "eval").symlink_to(run.data / "eval")
    source = Jsonl(path=str(folder / "rows.jsonl"))
    stream = Stream(
        source,
        tuple(source.slices()),
        run.task,
        processor_dir=run.model,
        folder=folder / "train",
        eval_dir=folder / "eval",
        rows=rows,
        quality=Quality(repair=False),
        gate=Gate(),
    )
    WindowWriter(stream).write(0)
    job = run.job(window=rows, **({"steps": STEPS} | settings))
    windows = WrittenWhenOpened(stream)
    return replace(job, data_dirs={"it": str(folder)}, windows=windows)  # type: ignore[arg-type]


def figures(out_dir: Path) -> dict[int, tuple]:
    return {r["step"]: (r["rows"], r["loss"]) for r in records(out_dir, "step")}


@pytest.mark.timeout(240)
def test_a_window_as_large_as_the_data_is_an_epoch_on_any_number_of_workers(
    tiny_encoder, tmp_path: Path
):
    plain = tiny_encoder.job(steps=STEPS, zero_stage=1, workers=1)
    run_world(train, 1, plain, tmp_path / "plain")
    job = streamed(tiny_encoder, tmp_path / "rows", rows=100, zero_stage=1)
    run_world(train, 2, job, tmp_path / "streamed")
    one, two = (figures(tmp_path / name) for name in ("plain", "streamed"))
    assert two == {
        step: (rows, pytest.approx(loss, abs=2e-4)) for step, (rows, loss) in one.items()
    }
    for event in ("evaluation", "checkpoint"):
        steps = [[r["step"] for r in records(tmp_path / n, event)] for n in ("plain", "streamed")]
        assert steps[0] == steps[1]
    assert records(tmp_path / "streamed", "step")[-1]["window"] >= 3


@pytest.mark.timeout(240)
def test_a_resumed_run_reads_the_windows_that_it_needs_and_no_other(tiny_decoder, tmp_path: Path):
    settings = {"rows": 10, "num_bad": 17, "zero_stage": 2, "checkpoint_every": 5}
    job = streamed(tiny_decoder, tmp_path / "rows", **settings)  # the last of a pass have no row
    run_world(train, 2, job, tmp_path / "whole")
    whole = figures(tmp_path / "whole")
    steps = records(tmp_path / "whole", "step")
    assert len({(r["window"], r["rows"]) for r in steps}) == len(whole) == STEPS
    at = {r["step"]: r["window"] for r in steps}
    assert 4 not in at.values(), "the fourth window has no row"
    there = sorted(int(p.name) for p in (tmp_path / "rows" / "train" / "windows").glob("0*"))
    assert there[0] == at[15] - 1 or there[0] == at[20] - 1
    assert at[5] < there[0], "windows were not removed"
    # windows that were removed are written again
    run_world(train, 2, job, tmp_path / "rest", tmp_path / "whole" / "step-5")
    rest = figures(tmp_path / "rest")
    assert rest == {step: found for step, found in whole.items() if step > 5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"window": 10}}, "say by steps"),
        ({"quality": {"duplicates": "near"}}, "nearly the same"),
        ({"continual": {}}, "Leave one of them out"),
        (
            {"tune": {"space": {"train.seed": {"kind": "integers", "low": 1, "high": 2}}}},
            "Leave tune or train.window out",
        ),
        (
            {"tasks": {name: {"kind": "sequence_classification"} for name in "ab"}},
            "several tasks",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused(changes, said):
    source = {"source": "jsonl", "path": "rows.jsonl"}
    tree = {
        "name": "streamed",
        "tasks": {"a": {"kind": "sequence_classification"}},
        "train": {"window": 10, "steps": 5},
    } | changes
    tree["data"] = {name: {"train": source, "eval": source} for name in tree["tasks"]}
    with pytest.raises(ConfigError, match=said):
        validate(Recipe, tree, what="recipe")
