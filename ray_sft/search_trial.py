"""One trial of a search: a candidate is made as far as it is worth it, and what came of it kept."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import ray.tune
import torch
from pydantic import Field

from ray_sft.bundle import Bundle
from ray_sft.compression import (
    UNFINISHED,
    Candidate,
    Compress,
    Pass,
    PassContext,
    Space,
    StepReport,
    Target,
    Tried,
    budget_misses,
    chain_fingerprint,
    compress,
)
from ray_sft.core import CompressionError, Config
from ray_sft.core.whole_files import write_whole
from ray_sft.data import SampleStore
from ray_sft.pass_context import pass_context
from ray_sft.retraining import Retraining

__all__ = ["SearchJob", "SearchSettings", "run_trial"]


class SearchSettings(Config):
    """What is searched for."""

    budget: dict[str, float] = Field(default_factory=dict)
    """Allowed change of a metric from the source, as in `Compress.budget`; where there is none,
    one hundredth of every task's main figure."""
    target: Target = "throughput"
    """What the model is to be best in."""
    trials: int = Field(default=12, ge=1)
    """How many candidates are tried."""
    epochs: int = Field(default=0, ge=0)
    """How often a student is trained on each row; 0 trains as long as the recipe."""
    seed: int = 0
    """Of the sampler."""


@dataclass(frozen=True, slots=True)
class SearchJob:
    """What every trial is sent."""

    source: Bundle
    space: Space
    settings: SearchSettings
    retraining: Retraining
    examples_of: Mapping[str, Path]
    bundles: Path
    """Of all candidates."""
    results: Path
    """A file for each candidate that was tried."""
    figures: frozenset[str]
    """Names of what evaluations report."""
    num_threads: int

    def tried(self) -> list[Tried]:
        """What is known so far."""
        return [
            Tried.model_validate_json(path.read_text(encoding="utf-8"))
            for path in sorted(self.results.glob("*.json"))
        ]

    def choices_tried(self) -> list[Tried]:
        """The same without what searches for another target alone would try."""
        return [one for one in self.tried() if self.space.holds(one.candidate)]

    def best_first(self) -> tuple[Tried, ...]:
        """All that is known, by what the search is for."""

        def place(one: Tried) -> tuple[float, str]:  # equal ones stand as they always do
            return -one.score(self.settings.target, self.settings.budget), one.candidate.key

        return tuple(sorted(self.tried(), key=place))

    def begun(self) -> list[Candidate]:
        """What was being tried when the search was interrupted."""
        return [
            Candidate.model_validate_json(path.read_text(encoding="utf-8"))
            for path in self.results.glob("*.begun")
        ]

    def result(self, candidate: Candidate) -> Path:
        """Where it is written what became of a candidate."""
        return self.results / f"{candidate.key}.json"

    def run(self, candidate: Candidate) -> Tried:
        """Makes a candidate, as far as it is worth it."""
        missed = next(
            (
                one
                for one in self.tried()
                if one.misses and not one.is_finished and candidate.is_part_of(one.candidate)
            ),
            None,
        )
        if missed is not None:
            return Tried(
                candidate=candidate,
                misses=missed.misses,
                note=f"not trained: it is a part of '{missed.candidate}', which misses the budget",
            )
        began = time.monotonic()
        tried = self._compressed(candidate)
        return tried.model_copy(update={"seconds": time.monotonic() - began})

    def _compressed(self, candidate: Candidate) -> Tried:
        train, budget = self.retraining.stage.train, self.settings.budget
        passes = candidate.passes(
            epochs=self.settings.epochs or train.epochs,
            steps=0 if self.settings.epochs else train.steps,
        )
        reports: list[StepReport] = []

        def is_worth_it(report: StepReport) -> bool:
            reports.append(report)
            _tell(f"{report.name}: {_figures(report)}")
            misses = budget_misses(reports[0].metrics, report.metrics, budget)
            return report.name != "distil" or not misses

        try:
            found = compress(
                Compress(passes=passes, min_speedup=0.0),
                self.source,
                examples={n: SampleStore(path).all() for n, path in self.examples_of.items()},
                out_dir=self.bundles,
                num_threads=self.num_threads,
                progress=lambda _: None,
                context=self._context(),
                folders=_folders(self.source, passes),
                on_step=is_worth_it,
            )
        except CompressionError as error:
            return Tried(candidate=candidate, reports=tuple(reports), note=str(error))
        note = "" if len(found) > len(passes) else "the student misses the budget"
        return Tried(candidate=candidate, reports=tuple(found), note=note).missing(budget)

    def _context(self) -> PassContext:
        def on_record(record: Mapping[str, Any]) -> None:
            if record["event"] == "evaluation":
                named = {k: v for k, v in record.items() if k in self.figures}
                _tell(f"training, step {record['step']}: {_spelled(named)}")

        return pass_context(
            self.retraining, out_dir=self.bundles.parent / "encoded", on_record=on_record
        )


def run_trial(places: Mapping[str, Any], *, job: SearchJob) -> None:
    """One candidate, in a process of its own."""
    torch.set_num_threads(job.num_threads)
    candidate = job.space.candidate(places)
    path = job.result(candidate)
    if path.is_file():
        tried = Tried.model_validate_json(path.read_text(encoding="utf-8"))
    else:
        begun = path.with_suffix(".begun")
        write_whole(begun, candidate.model_dump_json())
        tried = job.run(candidate)
        write_whole(path, tried.model_dump_json(indent=2))
        begun.unlink()
        shutil.rmtree(job.retraining.out_dir, ignore_errors=True)  # the students are bundles now
    score = tried.score(job.settings.target, job.settings.budget)
    ray.tune.report({"score": score, "told": f"{candidate}: {_summary(tried)}"})


def _folders(source: Bundle, passes: Sequence[Pass]) -> list[str]:
    """A folder for each bundle, by what makes it: chains that begin alike share bundles."""
    return [
        f"{step.variant}-{chain_fingerprint(source, passes[: number + 1])[:12]}"
        for number, step in enumerate(passes)
    ]


def _tell(text: str) -> None:
    """Tells how a trial goes on; what Ray Tune compares is what it ends with."""
    ray.tune.report({"score": UNFINISHED, "told": text})


def _summary(tried: Tried) -> str:
    """What became of a candidate, in a line."""
    if tried.note:
        return tried.note
    gains = ", ".join(f"{tried.gain(target):.2f} times in {target}" for target in get_args(Target))
    verdict = f"; misses the budget of {tried.spelled_misses}" if tried.misses else ""
    return f"{_figures(tried.reports[-1])}; {gains}{verdict}"


def _figures(report: StepReport) -> str:
    named = {k: v for k, v in report.metrics.items() if not k.split("/")[-1].startswith("num_")}
    return f"{_spelled(named)}, {report.num_bytes / 1e6:.1f} MB"


def _spelled(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
