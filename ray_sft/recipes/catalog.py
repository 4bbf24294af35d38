"""Recipe files by name or path. Imports nothing heavy, so that listing them is instant."""

from pathlib import Path

from ray_sft.core import ConfigError

__all__ = ["copy_recipe", "find_recipe", "packaged_recipes"]


def packaged_recipes() -> dict[str, str]:
    """The first comment line of each recipe of the package, by its name."""
    files = sorted(Path(__file__).parent.glob("*.yaml"))
    return {file.stem: _summary(file) for file in files}


def find_recipe(reference: str) -> Path:
    """The file of a recipe, by path or by the name of one that comes with the package.

    Raises:
        ConfigError: there is neither.
    """
    if Path(reference).is_file():
        return Path(reference)
    known = packaged_recipes()
    if reference in known:
        return Path(__file__).parent / f"{reference}.yaml"
    raise ConfigError(
        f"recipe '{reference}' is neither a file nor a recipe of this package ({', '.join(known)})."
    )


def copy_recipe(name: str, target: Path) -> Path:
    """Copies a recipe to a file or into a folder; returns the file.

    Raises:
        ConfigError: no such recipe, or the file is there already.
    """
    source = find_recipe(name)
    path = target / source.name if target.is_dir() else target
    if path.exists():
        raise ConfigError(f"'{path}' exists. Name another file.")
    path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def _summary(file: Path) -> str:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()
