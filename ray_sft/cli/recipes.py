"""Commands that take a recipe."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_sft.cli.shared import (
    Overrides,
    RecipeArgument,
    RunsDir,
    console,
    named,
    reported,
)

if TYPE_CHECKING:
    from ray_sft.pipeline import Pipeline

__all__ = ["app", "recipes_app"]

app = typer.Typer()
recipes_app = typer.Typer(help="The recipes that come with the package.", no_args_is_help=True)


@app.command()
def run(
    recipe: RecipeArgument, overrides: Overrides = None, runs_dir: RunsDir = Path("runs")
) -> None:
    """Run a recipe: data, training, evaluation, compression. Done stages are not run again."""
    with opened(recipe, overrides, runs_dir) as pipeline:
        pipeline.compress(pipeline.train())


@app.command()
def train(
    recipe: RecipeArgument, overrides: Overrides = None, runs_dir: RunsDir = Path("runs")
) -> None:
    """Only prepare the data and train; leaves the bundle 'trained'."""
    with opened(recipe, overrides, runs_dir) as pipeline:
        pipeline.train()


@app.command()
def compress(
    target: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|RECIPE",
            help="A trained bundle, or the folder of its run, to search for; or a recipe.",
        ),
    ],
    overrides: Overrides = None,
    runs_dir: RunsDir = Path("runs"),
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Allowed change of a figure, such as accuracy=-0.01; several may be given "
            "[0.01 of each task's main figure]."
        ),
    ] = None,
    best_in: Annotated[
        str,
        typer.Option("--target", help="What to be best in: size, latency or throughput."),
    ] = "throughput",
    trials: Annotated[int, typer.Option(min=1, help="How many models to try.")] = 12,
    epochs: Annotated[
        int, typer.Option(min=0, help="Training of each student; 0 for as long as the recipe's.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the choice of models.")] = 0,
) -> None:
    """Search the smallest or fastest model within a budget, or compress as a recipe says.

    Of a BUNDLE, tries several ways to cut, distil and quantize it, and keeps the best within the
    budget as the bundle 'compressed', with a table and a plot of all. The rows are those of the
    recipe that it was trained by. An interrupted search goes on.

    Of a RECIPE, applies its passes to the trained model (trains first where that is not done).
    """
    from ray_sft.run_folder import trained_bundle

    bundle = trained_bundle(Path(target))
    if bundle is None:
        with opened(target, overrides, runs_dir) as pipeline:
            pipeline.compress(pipeline.train())
        return
    with reported():
        from ray_sft.compress_search import SearchSettings
        from ray_sft.core import validate
        from ray_sft.opened_run import compress_bundle

        allowed = named(budget, option="--budget", example="accuracy=-0.01")
        settings = validate(
            SearchSettings,
            {
                "budget": {**allowed},
                "target": best_in,
                "trials": trials,
                "epochs": epochs,
                "seed": seed,
            },
            what="the search",
        )
        compress_bundle(console, bundle, overrides or [], settings, runs_dir=runs_dir)


@app.command()
def tune(
    recipe: RecipeArgument, overrides: Overrides = None, runs_dir: RunsDir = Path("runs")
) -> None:
    """Search the space under the recipe's 'tune' for better settings; writes the best recipe."""
    with opened(recipe, overrides, runs_dir, reports=False) as pipeline:
        from ray_sft.tune_report import show_search, write_search
        from ray_sft.tuning import search

        trials, figure = search(pipeline)
        best = write_search(pipeline.folder.path / "tune", pipeline.recipe, trials, figure)
        show_search(console, trials, figure)
        console.print(f"the best as a recipe: ray-sft run {best}", soft_wrap=True)


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    rows: Annotated[
        int, typer.Option(min=0, help="Look at no more rows of each source; 0 for all.")
    ] = 0,
) -> None:
    """Check a recipe and its rows, show what would be trained on, and keep nothing."""
    with reported():
        from ray_sft.opened_run import check_run

        check_run(console, recipe, overrides or [], rows=rows)


@app.command()
def augment(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for the JSON lines, a file a task.")] = Path(
        "augmented"
    ),
) -> None:
    """Write the training rows of a recipe and their changed copies, to look at or use elsewhere."""
    with reported():
        from ray_sft.augment import write_augmented_rows
        from ray_sft.ray_session import start_ray
        from ray_sft.recipe import load_recipe
        from ray_sft.resolve import check_recipe

        loaded = load_recipe(recipe, overrides or [])
        with start_ray():
            write_augmented_rows(console, check_recipe(loaded), out)


@app.command()
def submit(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option(help="The cluster's dashboard URL; the local cluster's when left out.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Stay and stream the log.")] = True,
) -> None:
    """Run a recipe as a job on a Ray cluster and stream its log."""
    with reported():
        from cluster.submit import submit as submit_job

        code = submit_job(recipe, overrides or [], address=address or None, wait=wait)
        raise typer.Exit(code)


@app.command()
def demo(
    check: Annotated[bool, typer.Option("--check", help="End by itself.")] = False,
    runs_dir: RunsDir = Path("runs"),
    port: Annotated[int, typer.Option(help="Port of the service.")] = 8000,
    app_port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
) -> None:
    """Run the whole line on the embedded samples, serve it, ask it, and show the page."""
    with reported():
        from cluster.demo import run_demo

        code = run_demo(
            check=check, runs_dir=runs_dir, port=port, app_port=app_port, console=console
        )
        raise typer.Exit(code)


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    with reported():
        from ray_sft.recipe import Recipe

        typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.command("ls")
def recipes_ls() -> None:
    """List the recipes with their first line."""
    with reported():
        from ray_sft.recipes import packaged_recipes

        for name, summary in packaged_recipes().items():
            console.print(f"[bold]{name}[/bold]  {summary}")


@recipes_app.command("cp")
def recipes_cp(
    name: str, target: Annotated[Path, typer.Argument(help="A file or folder.")] = Path()
) -> None:
    """Copy a recipe to edit it."""
    with reported():
        from ray_sft.recipes import copy_recipe

        console.print(f"Copied to {copy_recipe(name, target)}")


@contextmanager
def opened(
    recipe: str, overrides: list[str] | None, runs_dir: Path, *, reports: bool = True
) -> Iterator["Pipeline"]:
    """A pipeline with Ray, progress bars and the run's log; its report is written at the end."""
    with reported():
        from ray_sft.opened_run import open_run, report_run

        with open_run(console, recipe, overrides or [], runs_dir) as pipeline:
            yield pipeline
        if reports:
            report_run(console, pipeline)
