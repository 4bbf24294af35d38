"""Commands that ask or measure one bundle."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ray_sft.cli.shared import console, named, reported

__all__ = ["app"]

app = typer.Typer()


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
    with reported():
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
    with reported():
        from ray_sft.predict import predict_lines

        for line in predict_lines(bundle, text or [], file, _columns(column), max_tokens):
            typer.echo(line)


def _columns(pairs: list[str] | None) -> dict[str, str]:
    return named(pairs, option="--column", example="task_column=file_column")
