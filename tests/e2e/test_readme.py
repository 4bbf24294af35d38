"""The README says nothing that is not there: commands, options, recipes, files, kinds."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import typer
import yaml

from ray_sft.cli import app
from ray_sft.core import validate
from ray_sft.data.sources import Files, Source
from ray_sft.recipe import Recipe
from ray_sft.recipes import packaged_recipes
from tests.factories import PASS_TYPES, TASK_TYPES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [[word for word in words if not word.startswith("RAY_SFT_")] for words in split if words]


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command of ``ray-sft`` that ``words`` name, and what is left of them."""
    command: click.Command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"ray-sft has no command '{name}'"
        command = command.commands[name]
    return command, words


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_exists_and_takes_these_arguments(words):
    program, *arguments = words
    if program == "source":
        assert arguments == [".venv/bin/activate"]
    elif program == "make":
        target = subprocess.run(
            ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert target.returncode == 0, target.stderr
    else:
        assert program == "ray-sft"
        command, rest = find(arguments)
        command.make_context(command.name, rest)  # parses, and calls nothing


def test_the_two_commands_come_first():
    assert [words[:2] for words in commands()[:2]] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_recipe_is_valid(text):
    whole = yaml.safe_load(blocks("yaml")[0])  # others show only what they change of it
    recipe = validate(Recipe, whole | yaml.safe_load(text), what="the README's recipe")
    assert recipe.compress is not None


def test_every_source_and_quality_setting_is_named():
    sources = {s.model_fields["source"].default for s in Source.__subclasses__() if s is not Files}
    sources |= {s.model_fields["source"].default for s in leaves(Files)}
    assert {name for name in sources if f"`{name}`" not in TEXT} == {"several"}


def leaves(kind):
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


def test_every_file_and_folder_is_there():
    names = re.findall(r"`((?:ray_sft|serve|apps|cluster|benchmarks|tests)/[^`]*)`", TEXT)
    assert len(names) > 20
    missing = [n for n in names if not (ROOT / n).exists() and n != "ray_sft/tasks/my_task.py"]
    assert missing == []


def test_every_room_is_on_the_map():
    rooms = {
        str(path.parent.relative_to(ROOT)) + "/"
        for package in ("ray_sft", "serve", "apps", "cluster", "benchmarks")
        for path in (ROOT / package).glob("**/__init__.py")
    }
    named = [room for room in rooms if room.count("/") == 1 or room.startswith("ray_sft/")]
    assert sorted(room for room in named if f"`{room}`" not in TEXT) == []


@pytest.mark.parametrize("kind", [*TASK_TYPES, *PASS_TYPES], ids=lambda kind: kind.__name__)
def test_every_task_and_pass_is_named(kind):
    assert f"`{kind.model_fields['kind'].default}`" in TEXT


def test_recipes_in_commands_come_with_the_package():
    used = {w[2] for w in commands() if w[0] == "ray-sft" and w[1] in ("run", "check", "submit")}
    assert used - {"mine.yaml"} <= set(packaged_recipes())
