"""``ray-sft keys``: the API keys of a service."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ray_sft.cli.shared import console, reported

__all__ = ["KEYS_FILE", "keys_app"]

keys_app = typer.Typer(help="API keys of a service.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(help="The key's name.")]
KeysFile = Annotated[Path, typer.Option(help="File of hashed keys.")]
KEYS_FILE = Path("~/.config/ray-sft/keys.json")
"""As `serve.args.ServiceArgs` has it."""


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
    with reported():
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
    with reported():
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
    with reported():
        from serve.keys import parse_duration, rotate_key

        _print_token(rotate_key(keys_file.expanduser(), name=name, grace=parse_duration(grace)))


@keys_app.command("revoke")
def keys_revoke(name: KeyName, keys_file: KeysFile = KEYS_FILE) -> None:
    """End a key; a running service refuses it within a few seconds."""
    with reported():
        from serve.keys import revoke_key

        revoke_key(keys_file.expanduser(), name=name)
        console.print(f"key '{name}' is revoked")


def _print_token(token: str) -> None:
    """The token alone on the standard output, so that a script can take it from there."""
    Console(stderr=True).print("API key, shown this once (only its hash is kept):")
    typer.echo(token)
