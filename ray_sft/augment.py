"""Writing the changed copies of a recipe's rows from the command line."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from ray_sft.core import ConfigError
from ray_sft.data import write_augmented
from ray_sft.recipe import Recipe

__all__ = ["write_augmented_rows"]


def write_augmented_rows(console: Console, recipe: Recipe, out: Path) -> None:
    """Writes the training rows of every task with their changed copies, and says how many.

    Raises:
        ConfigError: the recipe names no augmentation.
        DataError: a source cannot be read.
    """
    if not recipe.augment:
        raise ConfigError(
            f"recipe '{recipe.name}' changes nothing. Name what to do: "
            "augment: [{kind: character_noise}]."
        )
    for name in recipe.tasks:
        path = out / f"{name}.jsonl"
        with Progress(TextColumn("{task.description}"), console=console, transient=True) as bar:
            shown = bar.add_task(name)

            def tell(count: int, shown: TaskID = shown, name: str = name) -> None:
                if count % 1000 == 0:
                    bar.update(shown, description=f"{name}: {count:,} rows")

            summary = write_augmented(
                recipe.data[name].train,
                recipe.augment,
                recipe.quality,
                path,
                seed=recipe.train.seed,
                gate=recipe.gate,
                on_rows=tell,
            )
        console.print(
            f"{path}: {summary.num_rows:,} rows and {summary.num_copies:,} changed copies; "
            f"{summary.num_unchanged:,} copies that change nothing, {summary.num_dropped:,} that "
            f"the gate dropped and {summary.num_rejected:,} rejected rows left out",
            soft_wrap=True,
        )
