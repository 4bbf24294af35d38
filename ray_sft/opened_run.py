"""A run with what surrounds it: Ray, the log file, and what a person sees of it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ray_sft.bundle import Bundle
from ray_sft.compress_report import show_found, told_shortfall, write_found
from ray_sft.compress_search import COMPRESSED, SearchSettings, check_source, search_smaller
from ray_sft.core import CompressionError, apply_overrides, validate
from ray_sft.core.logs import log_to_file
from ray_sft.pipeline import Pipeline
from ray_sft.preflight import preflight
from ray_sft.ray_session import start_ray
from ray_sft.recipe import Recipe, load_recipe
from ray_sft.report import write_report
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher, show_recipe, show_reports
from ray_sft.show_data import show_data, show_preflight

__all__ = ["check_run", "compress_bundle", "open_run", "report_run"]


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
        with _pipeline(console, resolved, RunFolder(runs_dir / resolved.name)) as pipeline:
            yield pipeline


@contextmanager
def _pipeline(console: Console, recipe: Recipe, folder: RunFolder) -> Iterator[Pipeline]:
    """The pipeline of a resolved recipe, with a bar on the screen and a log in its folder."""
    handler = log_to_file(folder.path / "run.log")
    try:
        with ProgressWatcher(console) as watcher:
            yield Pipeline(recipe, folder, watcher)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def compress_bundle(
    console: Console,
    path: Path,
    overrides: Sequence[str],
    settings: SearchSettings,
    *,
    runs_dir: Path,
) -> None:
    """Searches what to make of a bundle, shows what was tried, and says where the best is.

    The search lies in the run that the bundle is of, or else in a run of the model's name.

    Args:
        console: where to print.
        path: of a trained bundle.
        overrides: changes to the recipe that it was trained by.
        settings: what is searched for.
        runs_dir: where run folders are.

    Raises:
        RaySFTError: the bundle or its rows cannot be used, or nothing keeps the budget.
    """
    source = Bundle.open(path.resolve())  # trials run elsewhere
    check_source(source)
    tree = apply_overrides(source.manifest.recipe, overrides)
    recipe = validate(Recipe, tree, what=f"the recipe of bundle '{path}'")
    folder = source.path.parent
    run = folder.parent if folder.name == "bundles" else runs_dir / source.manifest.name
    console.print("Starting Ray ...")
    with start_ray(), _pipeline(console, recipe, RunFolder(run / "search")) as pipeline:
        found = search_smaller(pipeline, source, settings, path=run / "bundles" / COMPRESSED)
    write_found(run / "search", source, found)
    show_found(console, source, found)
    console.print(f"plot and table: {run / 'search' / 'search.html'}", soft_wrap=True)
    if found.bundle is None:
        raise CompressionError(told_shortfall(found))
    console.print(f"the best: ray-sft serve {found.bundle.path}", soft_wrap=True)


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
