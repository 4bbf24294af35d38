"""Models that a recipe names for work on rows: bundles, folders, hub ids."""

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from ray_sft.bundle import Bundle
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.core import ConfigError
from ray_sft.tasks import Task

__all__ = ["ModelReference", "only_task", "weights_of"]


def _found_from_anywhere(reference: str) -> str:
    """Workers run in other folders."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if reference and path.is_dir() else reference


ModelReference: TypeAlias = Annotated[str, AfterValidator(_found_from_anywhere)]
"""A model by its name; one that is a folder becomes absolute."""


def weights_of(*references: str) -> str:
    """Fingerprints of the bundles among some models, since other weights do other things."""
    bundles = (Path(path) for path in references if (Path(path) / MANIFEST).is_file())
    return "".join(Bundle.open(path).fingerprint for path in bundles)


def only_task(bundle: Bundle, kind: type[Task], *, field: str) -> str:
    """The name of the one task of that kind.

    Raises:
        ConfigError: there is none, or there are several; ``field`` is what named the bundle.
    """
    tasks = bundle.manifest.tasks
    names = [name for name, task in tasks.items() if isinstance(task, kind)]
    if len(names) != 1:
        raise ConfigError(
            f"{field}: bundle '{bundle.path}' has {len(names)} tasks of the kind "
            f"{kind.model_fields['kind'].default} (it has: "
            f"{', '.join(task.kind for task in tasks.values())}). Give a bundle with one."
        )
    return names[0]
