"""The command line: parses, calls, prints. Heavy rooms are imported by the command that needs them.

Whatever a user can fix ends as one red message and exit status 1; Ctrl-C ends with 130.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
keys_app = typer.Typer(help="API keys of a service.", no_args_is_help=True)
release_app = typer.Typer(help="What a service serves, and what it served.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(cluster_app, name="cluster")
app.add_typer(keys_app, name="keys")
app.add_typer(release_app, name="release")

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
ServiceKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="RAY_SFT_API_KEY",
        help="Key of the service; better given by the environment.",
    ),
]
KeyName = Annotated[str, typer.Argument(help="The key's name.")]
KeysFile = Annotated[Path, typer.Option(help="File of hashed keys.")]
KEYS_FILE = Path("~/.config/ray-sft/keys.json")
"""As `serve.args.ServiceArgs` has it."""


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


@app.command()
def deploy(
    targets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CONFIG|BUNDLE]...",
            help="YAML of the service's arguments; or bundles and run folders, for the names that "
            "they have.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until all replicas serve it; else go back by itself.")
    ] = False,
    canary: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of requests for the changed bundles.")
    ] = 0,
    shadow: Annotated[
        float, typer.Option(min=0, max=100, help="Percent that the changed bundles answer too.")
    ] = 0,
    promote: Annotated[bool, typer.Option("--promote", help="Serve the candidates.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Take the candidates away.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Serve the release before this one.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Only list the releases.")] = False,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Allowed change of a figure from the bundle that is replaced, such as "
            "accuracy=-0.01 [0.01 of each task's main figure]."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is refused; written down.")
    ] = False,
    address: Annotated[
        str, typer.Option(help="The cluster's Ray [RAY_ADDRESS, or your service on this machine].")
    ] = "",
    url: Annotated[str, typer.Option(help="URL of the service [by host and port].")] = "",
    port: Annotated[int, typer.Option(help="Port of the service on this machine.")] = 8000,
    api_key: ServiceKey = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that --wait waits.")] = 600,
    releases_dir: Annotated[
        Path | None, typer.Option(help="Where releases are written down [~/.ray-sft/releases].")
    ] = None,
) -> None:
    """Change a running service without losing a request, and go back where the change fails.

    Bundles are changed within the running replicas; other settings replace them one by one.
    """
    with _reported():
        from serve.release.command import Options, run_command

        options = Options(
            targets=tuple(targets or ()),
            wait=wait,
            canary=canary,
            shadow=shadow,
            promote=promote,
            abort=abort,
            rollback=rollback,
            history=history,
            budget=_named(budget, option="--budget", example="accuracy=-0.01"),
            force=force,
            address=address,
            url=url,
            port=port,
            api_key=api_key,
            timeout_s=timeout,
            releases_dir=releases_dir,
        )
        raise typer.Exit(run_command(console, options))


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
def bench(
    url: Annotated[str, typer.Argument(help="URL of a running service.")],
    route: Annotated[
        str,
        typer.Option(
            help="classify, entities, embeddings, translate, tokenize, score, rerank, chat or "
            "completions."
        ),
    ] = "classify",
    model: Annotated[
        str | None, typer.Option(help="Name of the model [the only one for the route].")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="File with one text a line [some that come with this].")
    ] = None,
    texts_per_request: Annotated[int, typer.Option(min=1, help="Texts of each request.")] = 1,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest reply of chat and completions.")
    ] = 64,
    connections: Annotated[int, typer.Option(min=1, help="Requests under way at most.")] = 32,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a second by the clock, whether or not earlier ones are answered [each "
            "connection asks again when it is answered]."
        ),
    ] = None,
    arrivals: Annotated[
        Literal["poisson", "constant"],
        typer.Option(help="With --rate: at random or at equal intervals."),
    ] = "poisson",
    duration: Annotated[str, typer.Option(help="How long to measure: 30s, 2m or 500ms.")] = "30s",
    key: Annotated[
        str,
        typer.Option(
            envvar="RAY_SFT_API_KEY", help="Key of the service; better given by the environment."
        ),
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for the figures as JSON.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="File for a page with tables and plots.")
    ] = None,
) -> None:
    """Load a running service; print rates, percentiles and failures, and one line of JSON."""
    with _reported():
        from apps.bench import Plan, bench_service, read_texts, seconds_in, told

        with told():
            plan = Plan(
                url=url,
                route=route,
                model=model,
                texts=read_texts(texts),
                texts_per_request=texts_per_request,
                max_tokens=max_tokens,
                connections=connections,
                rate=rate,
                arrivals=arrivals,
                duration_s=seconds_in(duration),
            )
            bench_service(plan, console, key=key, json_path=json_file, html_path=html_file)


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


@keys_app.command("add")
def keys_add(
    name: KeyName,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it opens: admin, infer, chat, assistant, monitor, recommend, read or "
            "metrics; several may be given [admin: every route]."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that it may ask; several may be given [all]."),
    ] = None,
    expires: Annotated[str, typer.Option(help="When it ends: 30m, 24h, 90d or 2w [never].")] = "",
    requests_per_minute: Annotated[
        int | None, typer.Option(min=0, help="0: no limit [the service's].")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=0, help="Read and written; 0: no limit [the service's].")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(min=0, help="Requests at once; 0: no limit [the service's].")
    ] = None,
    keys_file: KeysFile = KEYS_FILE,
) -> None:
    """Make a key and print its token, this once.

    A running service takes it up within a few seconds.
    """
    with _reported():
        from serve.keys import KeyLimits, add_key, parse_duration, parse_scopes

        token = add_key(
            keys_file.expanduser(),
            name=name,
            scopes=parse_scopes(scope or ["admin"]),
            models=model or [],
            lifetime=parse_duration(expires) if expires else None,
            limits=KeyLimits(
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                concurrent_requests=concurrent,
            ),
        )
        _print_token(token)


@keys_app.command("ls")
def keys_ls(keys_file: KeysFile = KEYS_FILE) -> None:
    """List the keys with what they open, until when and how often."""
    with _reported():
        from datetime import UTC, datetime

        from serve.keys import existing_key_file, key_table

        content = existing_key_file(keys_file.expanduser())
        console.print(key_table(content.keys, datetime.now(UTC)))


@keys_app.command("rotate")
def keys_rotate(
    name: KeyName,
    grace: Annotated[
        str, typer.Option(help="How long the old token goes on working: 0s, 24h, 7d.")
    ] = "24h",
    keys_file: KeysFile = KEYS_FILE,
) -> None:
    """Give a key a new token and print it, this once."""
    with _reported():
        from serve.keys import parse_duration, rotate_key

        _print_token(rotate_key(keys_file.expanduser(), name=name, grace=parse_duration(grace)))


@keys_app.command("revoke")
def keys_revoke(name: KeyName, keys_file: KeysFile = KEYS_FILE) -> None:
    """End a key; a running service refuses it within a few seconds."""
    with _reported():
        from serve.keys import revoke_key

        revoke_key(keys_file.expanduser(), name=name)
        console.print(f"key '{name}' is revoked")


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


def _print_token(token: str) -> None:
    """The token alone on the standard output, so that a script can take it from there."""
    Console(stderr=True).print("API key, shown this once (only its hash is kept):")
    typer.echo(token)


@release_app.command("status")
def release_status(
    url: Annotated[str, typer.Argument(help="URL of the service.")] = "http://127.0.0.1:8000",
    api_key: ServiceKey = "",
) -> None:
    """Show what every replica serves, and how candidates compare."""
    with _reported():
        from serve.release.command import read_reports
        from serve.release.show import status_tables

        console.print(status_tables(read_reports(url, api_key)))


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
