"""What the commands share: the console, common arguments, and how errors end."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

__all__ = ["Overrides", "RecipeArgument", "RunsDir", "ServiceKey", "console", "named", "reported"]

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


@contextmanager
def reported() -> Iterator[None]:
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


def named(pairs: list[str] | None, *, option: str, example: str) -> dict[str, str]:
    """``label=category`` pairs as a mapping.

    Raises:
        ConfigError: a pair without ``=``.
    """
    from ray_sft.core.errors import ConfigError

    values = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ConfigError(f"{option} {pair!r} has no '='. Write {example}.")
        values[name] = value
    return values
