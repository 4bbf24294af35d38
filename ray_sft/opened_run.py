"""A run with what surrounds it: Ray, the log file, and what a person sees of it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ray_sft.core.logs import log_to_file
from ray_sft.pipeline import Pipeline
from ray_sft.preflight import preflight
from ray_sft.ray_session import start_ray
from ray_sft.recipe import load_recipe
from ray_sft.report import write_report
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher, show_recipe, show_reports
from ray_sft.show_data import show_data, show_preflight

__all__ = ["check_run", "open_run", "report_run"]


@contextmanager
def open_run(
    console: Console, recipe: str, overrides: Sequence[str], runs_dir: Path
) -> Iterator[Pipeline]:
    """The pipeline of a recipe in its folder below ``runs_dir``.

    Raises:
        RaySFTError: the recipe, its model or its data cannot be used.
    """
    loaded = load_recipe(recipe, overrides)
    console.print("Starting Ray ...")
    with start_ray():
        resolved = check_recipe(loaded)
        folder = RunFolder(runs_dir / resolved.name)
        handler = log_to_file(folder.path / "run.log")
        try:
            with ProgressWatcher(console) as watcher:
                yield Pipeline(resolved, folder, watcher)
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()


def check_run(console: Console, recipe: str, overrides: Sequence[str], *, rows: int) -> None:
    """Shows what a recipe would do with its rows, its examples and the memory; keeps nothing.

    Args:
        console: where to print.
        recipe: a file or a name.
        overrides: changes to it.
        rows: look at no more of each source; 0 for all.

    Raises:
        RaySFTError: the recipe, its model or its data cannot be used.
    """
    loaded = load_recipe(recipe, overrides).with_first_rows(rows)
    with start_ray(), TemporaryDirectory(prefix="ray-sft-check-") as folder:
        resolved = check_recipe(loaded)
        show_recipe(console, resolved)
        with ProgressWatcher(console) as watcher:
            pipeline = Pipeline(resolved, RunFolder(Path(folder)), watcher)
            stages = pipeline.prepare()
        show_data(console, pipeline.reports, pipeline.folder.rejected)
        for ready in stages:
            stage = ready.stage
            found = preflight(ready)
            show_preflight(console, stage.name, found, zero_stage=stage.train.zero_stage)


def report_run(console: Console, pipeline: Pipeline) -> None:
    """Writes the report of a run that is over, and shows its table."""
    write_report(pipeline.folder, pipeline.recipe.name, pipeline.reports)
    show_reports(console, pipeline.folder, pipeline.reports)
