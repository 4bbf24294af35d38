"""The command line: parses, calls, prints. Heavy rooms are imported by the command that needs them.

Whatever a user can fix ends as one red message and exit status 1; Ctrl-C ends with 130.
"""

from typing import Annotated

import typer

from ray_sft.cli import bundles, cluster, keys, recipes, service
from ray_sft.cli.shared import console

__all__ = ["app", "main"]

app = typer.Typer(
    name="ray-sft",
    help="Fine-tune a small open model on your own text, shrink it, and serve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (recipes.app, bundles.app, service.app):
    app.add_typer(commands)
app.add_typer(recipes.recipes_app, name="recipes")
app.add_typer(cluster.cluster_app, name="cluster")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(service.release_app, name="release")


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    from ray_sft.core.logs import configure_logging

    configure_logging(console, verbose=verbose)


def main() -> None:
    """The entry point of the command ``ray-sft``."""
    app()
