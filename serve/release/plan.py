"""How one set of arguments is made another in a running service: by a swap or a rolling update.

A swap changes bundles within the replicas, in seconds and without a new process. A rolling update
starts new replicas before it ends old ones. Which it is, is a matter of what has changed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, TypeAlias

from ray_sft.bundle import Manifest
from serve.args import ServiceArgs
from serve.release.settings import Wanted
from serve.release.swappable import holders, why_not_swapped

__all__ = ["Plan", "Way", "changed_bundles", "changed_settings", "deployment_version", "make_plan"]

Way: TypeAlias = Literal["start", "swap", "rolling", "nothing"]

NOT_A_REPLICAS = (
    *("replicas", "autoscaling", "max_surge_percent"),
    *("host", "port", "proxy", "ray_address", "startup_timeout_s"),
)
"""Arguments that Ray changes without replacing replicas, and those of Ray Serve itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and why like this."""

    way: Way
    reasons: tuple[str, ...]


def deployment_version(args: ServiceArgs) -> str:
    """A hash of what takes a new replica to change; a replica alone shares nothing with others."""
    fixed = args.model_dump(mode="json", exclude={*Wanted.model_fields, *NOT_A_REPLICAS})
    is_alone = args.most_replicas == 1
    parts = [version("ray-sft"), sorted(args.bundles), is_alone, fixed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(
    current: ServiceArgs | None,
    new: ServiceArgs,
    *,
    serving: Mapping[str, Manifest],
    manifests: Mapping[str, Manifest],
) -> Plan:
    """The way from ``current`` to ``new``.

    Args:
        current: what is served; None where nothing is.
        new: what is to be served. Its fingerprints are known, as those of ``current``.
        serving: the manifests of the bundles that are served, by model name, as far as known.
        manifests: those of the bundles that are to be served.
    """
    if current is None:
        return Plan("start", ("nothing is served yet",))
    if changed := changed_settings(current, new):
        return Plan("rolling", tuple(f"{name} has changed" for name in changed))
    held = holders(new)
    reasons = tuple(
        reason
        for name, manifest in manifests.items()
        if name in serving and (reason := why_not_swapped(name, serving[name], manifest, held))
    )
    if reasons:
        return Plan("rolling", reasons)
    changes = [f"'{name}' has another bundle" for name in changed_bundles(current, new)]
    if current.releases != new.releases:
        changes.append(f"candidates: {', '.join(new.releases) or 'none any more'}")
    if changes:
        return Plan("swap", tuple(changes))
    if any(getattr(current, name) != getattr(new, name) for name in NOT_A_REPLICAS[:3]):
        return Plan("swap", ("the number of replicas has changed",))
    return Plan("nothing", ("everything is as it is served",))


def changed_bundles(current: ServiceArgs, new: ServiceArgs) -> list[str]:
    """Names whose bundle is another one, wherever it lies."""
    return [
        name for name in new.bundles if current.fingerprints.get(name) != new.fingerprints.get(name)
    ]


def changed_settings(current: ServiceArgs, new: ServiceArgs) -> list[str]:
    """What takes a new replica to change, by name."""
    if deployment_version(current) == deployment_version(new):
        return []
    mine, theirs = (
        one.model_dump(mode="json", exclude={*Wanted.model_fields, *NOT_A_REPLICAS})
        for one in (current, new)
    )
    changed = [name for name in mine if mine[name] != theirs[name]]
    if set(current.bundles) != set(new.bundles):
        changed.append("the set of models")
    if (current.most_replicas == 1) != (new.most_replicas == 1):
        changed.append("whether there are several replicas")
    return changed
