"""The command line: parses, calls, prints. Heavy rooms are imported by the command that needs them.

Whatever a user can fix ends as one red message and exit status 1; Ctrl-C ends with 130.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from ray_sft.pipeline import Pipeline

app = typer.Typer(
    name="ray-sft",
    help="Fine-tune a small open model on your own text, shrink it, and serve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="The recipes that come with the package.", no_args_is_help=True)
cluster_app = typer.Typer(help="A Ray cluster on this machine, for trying.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(cluster_app, name="cluster")

console = Console()

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A YAML file, or a name that 'ray-sft recipes ls' shows."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Changes to the recipe, such as train.workers=8."
    ),
]
RunsDir = Annotated[Path, typer.Option(help="Where run folders are.")]


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    from ray_sft.core.logs import configure_logging

    configure_logging(console, verbose=verbose)


@app.command()
def run(
    recipe: RecipeArgument, overrides: Overrides = None, runs_dir: RunsDir = Path("runs")
) -> None:
    """Run a recipe: data, training, evaluation, compression. Done stages are not run again."""
    with _run(recipe, overrides, runs_dir) as pipeline:
        pipeline.compress(pipeline.train())


@app.command()
def train(
    recipe: RecipeArgument, overrides: Overrides = None, runs_dir: RunsDir = Path("runs")
) -> None:
    """Only prepare the data and train; leaves the bundle 'trained'."""
    with _run(recipe, overrides, runs_dir) as pipeline:
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
        with _run(target, overrides, runs_dir) as pipeline:
            pipeline.compress(pipeline.train())
        return
    with _reported():
        from ray_sft.compress_search import SearchSettings
        from ray_sft.core import validate
        from ray_sft.opened_run import compress_bundle

        allowed = _named(budget, option="--budget", example="accuracy=-0.01")
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
    with _run(recipe, overrides, runs_dir, reports=False) as pipeline:
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
    with _reported():
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
    with _reported():
        from ray_sft.augment import write_augmented_rows
        from ray_sft.ray_session import start_ray
        from ray_sft.recipe import load_recipe
        from ray_sft.resolve import check_recipe

        loaded = load_recipe(recipe, overrides or [])
        with start_ray():
            write_augmented_rows(console, check_recipe(loaded), out)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    data: Annotated[str, typer.Argument(help="A csv, jsonl, parquet or text file.")],
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column of the file under its name in the task: label=category."),
    ] = None,
) -> None:
    """Measure a bundle on a file of rows with labels; prints JSON."""
    with _reported():
        from ray_sft.predict import evaluate_file

        figures = evaluate_file(bundle, data, _columns(column))
        console.print_json(json.dumps(figures))


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    text: Annotated[list[str] | None, typer.Option(help="A text or question.")] = None,
    file: Annotated[str, typer.Option(help="A file of rows instead.")] = "",
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column of the file under its name in the task: text=query."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest reply, for a chat model.")] = 128,
) -> None:
    """Ask a bundle; prints one JSON line per answer."""
    with _reported():
        from ray_sft.predict import predict_lines

        for line in predict_lines(bundle, text or [], file, _columns(column), max_tokens):
            typer.echo(line)


@app.command()
def serve(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles, or run folders (their smallest bundle).")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML of the service's arguments; applications are switched on there."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8000].")] = None,
    keys_file: Annotated[
        str | None, typer.Option(help="Hashed API keys; made when missing.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(help="haproxy (fast) or plain [haproxy].")] = None,
    num_cpus: Annotated[
        int | None, typer.Option(help="CPUs of the replica [half of the machine's].")
    ] = None,
) -> None:
    """Serve bundles over HTTP on Ray Serve until Ctrl-C."""
    with _reported():
        from ray_sft.core import load_tree, validate
        from ray_sft.run_folder import served_bundles
        from serve.args import ServiceArgs
        from serve.run import run_service

        given = {
            "host": host,
            "port": port,
            "keys_file": keys_file,
            "proxy": proxy,
            "num_cpus": num_cpus,
        }
        tree = load_tree(config) if config else {}
        tree |= {name: value for name, value in given.items() if value is not None}
        if bundles or not config:
            tree["bundles"] = served_bundles(bundles or [])  # type: ignore[assignment]
        args = validate(ServiceArgs, tree, what="the service's arguments")
        run_service(args, on_ready=lambda url: console.print(f"Serving at {url}"))


@app.command(name="app")
def app_(
    service: Annotated[str, typer.Option(help="URL of the service.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="RAY_SFT_API_KEY", help="Key of the service; better given by the environment."
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
) -> None:
    """Open the pages, which talk to a service over HTTP."""
    with _reported():
        from apps.main import launch

        launch(service_url=service, api_key=api_key, host=host, port=port)


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
    with _reported():
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
    with _reported():
        from cluster.demo import run_demo

        code = run_demo(
            check=check, runs_dir=runs_dir, port=port, app_port=app_port, console=console
        )
        raise typer.Exit(code)


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    with _reported():
        from ray_sft.recipe import Recipe

        typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.command("ls")
def recipes_ls() -> None:
    """List the recipes with their first line."""
    with _reported():
        from ray_sft.recipes import packaged_recipes

        for name, summary in packaged_recipes().items():
            console.print(f"[bold]{name}[/bold]  {summary}")


@recipes_app.command("cp")
def recipes_cp(
    name: str, target: Annotated[Path, typer.Argument(help="A file or folder.")] = Path()
) -> None:
    """Copy a recipe to edit it."""
    with _reported():
        from ray_sft.recipes import copy_recipe

        console.print(f"Copied to {copy_recipe(name, target)}")


@cluster_app.command("up")
def cluster_up(
    workers: Annotated[int, typer.Option(help="Worker nodes beside the head.")] = 1,
) -> None:
    """Start a head and workers on this machine, with token authentication."""
    with _reported():
        from cluster.local import up

        up(num_workers=workers)


@cluster_app.command("down")
def cluster_down() -> None:
    """Stop what 'up' started."""
    with _reported():
        from cluster.local import down

        down()


@cluster_app.command("status")
def cluster_status() -> None:
    """Say what runs."""
    with _reported():
        from cluster.local import status

        console.print(status())


def main() -> None:
    """The entry point of the command ``ray-sft``."""
    app()


@contextmanager
def _reported() -> Iterator[None]:
    """Turns errors that a user can fix into one message and an exit status."""
    from ray_sft.core.errors import RaySFTError

    try:
        yield
    except RaySFTError as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        Console(stderr=True, soft_wrap=True).print(
            Text.assemble(("error: ", "bold red"), str(error))
        )
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run the same command again to go on")
        sys.exit(130)


@contextmanager
def _run(
    recipe: str, overrides: list[str] | None, runs_dir: Path, *, reports: bool = True
) -> Iterator["Pipeline"]:
    """A pipeline with Ray, progress bars and the run's log; its report is written at the end."""
    with _reported():
        from ray_sft.opened_run import open_run, report_run

        with open_run(console, recipe, overrides or [], runs_dir) as pipeline:
            yield pipeline
        if reports:
            report_run(console, pipeline)


def _columns(pairs: list[str] | None) -> dict[str, str]:
    """``label=category`` pairs as a mapping.

    Raises:
        ConfigError: a pair without ``=``.
    """
    return _named(pairs, option="--column", example="task_column=file_column")


def _named(pairs: list[str] | None, *, option: str, example: str) -> dict[str, str]:
    from ray_sft.core.errors import ConfigError

    values = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ConfigError(f"{option} {pair!r} has no '='. Write {example}.")
        values[name] = value
    return values


if __name__ == "__main__":
    main()
