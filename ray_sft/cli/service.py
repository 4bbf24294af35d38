"""Commands around a service: start it, change it, load it, open its pages."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ray_sft.cli.shared import ServiceKey, console, named, reported

__all__ = ["app", "release_app"]

app = typer.Typer()
release_app = typer.Typer(help="What a service serves, and what it served.", no_args_is_help=True)


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
    with reported():
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
    with reported():
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
            budget=named(budget, option="--budget", example="accuracy=-0.01"),
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
    api_key: ServiceKey = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
) -> None:
    """Open the pages, which talk to a service over HTTP."""
    with reported():
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
    with reported():
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


@release_app.command("status")
def release_status(
    url: Annotated[str, typer.Argument(help="URL of the service.")] = "http://127.0.0.1:8000",
    api_key: ServiceKey = "",
) -> None:
    """Show what every replica serves, and how candidates compare."""
    with reported():
        from serve.release.command import read_reports
        from serve.release.show import status_tables

        console.print(status_tables(read_reports(url, api_key)))
