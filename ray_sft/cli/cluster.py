"""``ray-sft cluster``: a Ray cluster on this machine."""

from typing import Annotated

import typer

from ray_sft.cli.shared import console, reported

__all__ = ["cluster_app"]

cluster_app = typer.Typer(help="A Ray cluster on this machine, for trying.", no_args_is_help=True)


@cluster_app.command("up")
def cluster_up(
    workers: Annotated[int, typer.Option(help="Worker nodes beside the head.")] = 1,
) -> None:
    """Start a head and workers on this machine, with token authentication."""
    with reported():
        from cluster.local import up

        up(num_workers=workers)


@cluster_app.command("down")
def cluster_down() -> None:
    """Stop what 'up' started."""
    with reported():
        from cluster.local import down

        down()


@cluster_app.command("status")
def cluster_status() -> None:
    """Say what runs."""
    with reported():
        from cluster.local import status

        console.print(status())
