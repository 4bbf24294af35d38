"""Which bundles can take one another's place in a running service, and which need a new replica.

A request needs the same tasks under the same names. An application needs more: knowledge and
items are kept as vectors of one very bundle, and what was counted or learned rests on the scores
of one. Such a bundle is changed by a rolling update, which opens the application anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ray_sft.bundle import Manifest
from serve.args import ServiceArgs

__all__ = ["Holder", "holders", "why_not_swapped"]


@dataclass(frozen=True, slots=True)
class Holder:
    """What an application needs of a bundle."""

    application: str
    labels_are_enough: bool
    """Whether another bundle with the same labels will do; else only this one does."""


def holders(args: ServiceArgs) -> dict[str, Holder]:
    """The bundles that applications hold, by name."""
    found: dict[str, Holder] = {}
    if args.assistant is not None and args.assistant.intent_model:
        _add(found, args.assistant.intent_model, Holder("assistant", labels_are_enough=True))
    if args.assistant is not None:
        _add(found, args.assistant.embedding_model, Holder("assistant", labels_are_enough=False))
    if args.monitor is not None:
        _add(found, args.monitor.model, Holder("monitor", labels_are_enough=False))
    if args.recommend is not None:
        for model in (args.recommend.embedding_model, args.recommend.ranking_model):
            if model:
                _add(found, model, Holder("recommend", labels_are_enough=False))
    return found


def why_not_swapped(
    name: str, current: Manifest, new: Manifest, held: Mapping[str, Holder]
) -> str | None:
    """Why ``new`` cannot take the place of ``current`` in a running service; None where it can."""
    mine, theirs = _kinds(current), _kinds(new)
    if mine != theirs:
        return f"'{name}' has the tasks {_spelled(mine)}, and its new bundle {_spelled(theirs)}"
    holder = held.get(name)
    if holder is None:
        return None
    if not holder.labels_are_enough:
        return f"'{name}' is held by the application '{holder.application}'"
    if _labels(current) != _labels(new):
        return f"'{name}' is held by the application '{holder.application}', and its labels differ"
    return None


def _add(found: dict[str, Holder], model: str, holder: Holder) -> None:
    """A model is a bundle or one task of it; the more demanding holder of a bundle counts."""
    name = model.split("/")[0]
    known = found.get(name)
    if known is None or known.labels_are_enough:
        found[name] = holder


def _kinds(manifest: Manifest) -> dict[str, str]:
    return {name: task.kind for name, task in manifest.tasks.items()}


def _labels(manifest: Manifest) -> dict[str, object]:
    return {name: getattr(task, "labels", None) for name, task in manifest.tasks.items()}


def _spelled(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
