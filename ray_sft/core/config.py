"""The base of every configuration value, and the reading of a YAML page into one.

A configuration is a frozen pydantic model: its fields are what YAML may set, its methods are
what it means. This file knows no concrete configuration.
"""

from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ray_sft.core.errors import ConfigError

__all__ = ["Config", "Tree", "apply_overrides", "load_tree", "validate"]

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"

C = TypeVar("C", bound=BaseModel)

_LONGEST_VALUE = 200


class Config(BaseModel):
    """A frozen value read from YAML; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the base class refuses it
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"key {key!r} stands twice (second time in line {line}).")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_tree(path: Path) -> dict[str, Tree]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"recipe file '{path}' does not exist.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe file '{path}' is not UTF-8: {error}.") from None
    except OSError as error:
        raise ConfigError(f"recipe file '{path}' cannot be read: {error.strerror}.") from None
    try:
        tree = _load_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"recipe file '{path}': {error}") from None
    if tree is None:
        raise ConfigError(f"recipe file '{path}' is empty.")
    if not isinstance(tree, dict):
        raise ConfigError(f"recipe file '{path}' holds no mapping but {type(tree).__name__}.")
    return tree


def _load_yaml(text: str) -> Tree:
    """Plain values only; nothing in the result is shared with another part of it.

    Raises:
        ConfigError: not YAML, a key that stands twice, or a value that contains itself.
    """
    try:
        return _unshared(yaml.load(text, Loader=_UniqueKeyLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError("nested too deeply, or a value that contains itself.") from None


def _unshared(tree: Tree) -> Tree:
    """A copy in which YAML aliases are values of their own, so that one can be changed alone."""
    if isinstance(tree, dict):
        return {key: _unshared(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unshared(value) for value in tree]
    return tree


def apply_overrides(tree: dict[str, Tree], overrides: Sequence[str]) -> dict[str, Tree]:
    """A copy of ``tree`` with ``a.b.0.c=value`` assignments applied; values are YAML.

    Raises:
        ConfigError: an assignment has no ``=``, its value is not YAML, or its path runs through a
            plain value or past the end of a list.
    """
    copy = {key: _unshared(value) for key, value in tree.items()}
    for override in overrides:
        path, sign, text = override.partition("=")
        if not sign or not path:
            raise ConfigError(f"override {override!r} has no '='. Write path.to.field=value.")
        try:
            value = _load_yaml(text)
        except ConfigError as error:
            quoted = text.replace("'", "''")
            raise ConfigError(
                f"override {override!r}: the value is {error} Quote it for YAML and for the "
                f"shell: {path}=\"'{quoted}'\""
            ) from None
        _assign(copy, path, value)
    return copy


def _assign(tree: Tree, path: str, value: Tree) -> None:
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        if isinstance(node, list):
            node = node[_index(node, name, path)]
        elif isinstance(node, dict):
            if node.get(name) is None:
                node[name] = {}
            node = node[name]
        else:
            raise ConfigError(f"override '{path}': '{name}' lies below a plain value {node!r}.")
    if isinstance(node, list):
        node[_index(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"override '{path}': '{last}' lies below a plain value {node!r}.")


def _index(items: list[Tree], name: str, path: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        known = f"0 to {len(items) - 1}" if items else "set the whole list instead"
        raise ConfigError(
            f"override '{path}': '{name}' is no position in a list of {len(items)} items ({known})."
        )
    return int(name)


def validate(model: type[C], tree: Tree, *, what: str) -> C:
    """``tree`` as a ``model``; ``what`` names it in the error.

    Raises:
        ConfigError: one line per problem, with the path, the value and the nearest known name.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(dict(problem), model, tree) for problem in error.errors()]
        raise ConfigError(f"{what} is not valid:\n  " + "\n  ".join(lines)) from None


def _explain(problem: dict[str, object], model: type[BaseModel], tree: Tree) -> str:
    location = problem["loc"]
    assert isinstance(location, tuple)
    where = ".".join(_written_path(location, tree)) or "(top)"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        name = str(location[-1])
        near = get_close_matches(name, sorted(_field_names(model)), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{where}: unknown key.{hint}"
    if problem["type"] == "missing":
        return f"{where}: is missing"
    given = repr(problem.get("input"))
    if len(given) > _LONGEST_VALUE:
        given = given[:_LONGEST_VALUE] + " ..."
    return f"{where}: {message} (got {given})"


def _written_path(location: tuple[str | int, ...], tree: Tree) -> list[str]:
    """``location`` as it is written in the file: without the kinds that pydantic puts into it."""
    names: list[str] = []
    node: Tree = tree
    for depth, part in enumerate(location):
        is_last = depth + 1 == len(location)
        if isinstance(node, dict) and part not in node and not is_last and node.get("kind") == part:
            continue
        names.append(str(part))
        if isinstance(node, dict):
            node = node.get(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            node = None
    return names


def _field_names(model: type[BaseModel]) -> set[str]:
    """Names of the fields of a model and of every model below it."""
    return set(_property_names(model.model_json_schema()))


def _property_names(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _property_names(item)]
    if not isinstance(schema, dict):
        return []
    own = list(schema.get("properties", {}))
    return own + [name for value in schema.values() for name in _property_names(value)]
