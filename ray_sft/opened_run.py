"""A run with what surrounds it: Ray, the log file, and progress on the screen."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ray_sft.core.logs import log_to_file
from ray_sft.pipeline import Pipeline
from ray_sft.ray_session import start_ray
from ray_sft.recipe import load_recipe
from ray_sft.report import write_report
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher, show_reports

__all__ = ["open_run", "report_run"]


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


def report_run(console: Console, pipeline: Pipeline) -> None:
    """Writes the report of a run that is over, and shows its table."""
    write_report(pipeline.folder, pipeline.recipe.name, pipeline.reports)
    show_reports(console, pipeline.folder, pipeline.reports)
