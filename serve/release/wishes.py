"""What a deployment is to bring about, said in terms of what is served.

Each wish becomes the whole configuration of the service: a new one from a file, the one that is
served with candidates added, promoted or taken away, or one of an earlier release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError
from serve.args import ServiceArgs
from serve.release.history import History, Kind
from serve.release.plan import changed_settings
from serve.release.settings import Release
from serve.release.target import Serving

__all__ = ["Abort", "Candidates", "Configure", "GoBack", "Promote", "Replace", "Wishes"]

_OF_RAY_SERVE = ("host", "port", "proxy", "ray_address", "startup_timeout_s")
"""What Ray Serve was started with; another process cannot change it."""


_NOT_BY_DEFAULT = ("keys_file", "num_cpus", "revision")
"""Where a configuration says nothing of these, they stay: what is usual here, on this machine and
for this user, need not be so there."""


class Wishes(Protocol):
    """What a command is to do."""

    @property
    def kind(self) -> Kind:
        """Its name in the history."""

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """The configuration that is meant, and what is to be said about it.

        Raises:
            ConfigError: it makes no sense with what is served.
        """


@dataclass(frozen=True, slots=True)
class Configure:
    """Serve a configuration."""

    args: ServiceArgs
    kind: Kind = "deploy"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """The configuration; what only the running Ray Serve decides is taken from it."""
        args = _absolute(self.args)
        if serving is None:
            return args, []
        kept = {name: getattr(serving.args, name) for name in _OF_RAY_SERVE}
        kept |= {
            name: getattr(serving.args, name)
            for name in _NOT_BY_DEFAULT
            if name not in self.args.model_fields_set
        }
        notes = [
            f"{name} stays {kept[name]!r}: it was given when Ray Serve was started"
            for name in ("host", "port", "proxy")
            if name in self.args.model_fields_set and getattr(args, name) != kept[name]
        ]
        return args.model_copy(update=kept), notes


@dataclass(frozen=True, slots=True)
class Replace:
    """Serve other bundles under some of the names, and everything else as it is."""

    bundles: Mapping[str, str]
    kind: Kind = "deploy"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """What is served, with the bundles in their places."""
        current = _needed(serving, "There is nothing to put bundles into")
        if unknown := sorted(set(self.bundles) - set(current.args.bundles)):
            raise ConfigError(
                f"the service has no model '{unknown[0]}' (it has: "
                f"{', '.join(current.args.bundles)}). Another model takes a configuration."
            )
        known = {n: f for n, f in current.args.fingerprints.items() if n not in self.bundles}
        changes = {"bundles": _over(current.args.bundles, self.bundles), "fingerprints": known}
        return _absolute(current.args.model_copy(update=changes)), []


@dataclass(frozen=True, slots=True)
class Candidates:
    """Load what another wish changes beside what is served, for a share of the requests."""

    base: Configure | Replace
    percent: float
    shadow: float
    kind: Kind = "canary"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """What is served, with a candidate for every bundle that differs."""
        current = _needed(serving, "A candidate needs something to be compared with")
        args, notes = self.base.resolve(serving)
        changed = changed_settings(current.args, args)
        if changed:
            raise ConfigError(
                f"a canary changes bundles alone, and this configuration has another "
                f"{', '.join(changed)}. Deploy that first, without --canary and --shadow."
            )
        releases = {
            name: Release(bundle=path, percent=self.percent, shadow=self.shadow)
            for name, path in args.bundles.items()
            if Bundle.open(path).fingerprint != current.args.fingerprints[name]
        }
        if not releases:
            raise ConfigError("every bundle of the configuration is served already.")
        return current.args.model_copy(update={"releases": releases}), notes


@dataclass(frozen=True, slots=True)
class Promote:
    """Let the candidates take the places that they are candidates for."""

    kind: Kind = "promote"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """What is served, with the candidates as its bundles."""
        current = _needed(serving, "There is no candidate to promote")
        releases = current.args.releases
        if not releases:
            raise ConfigError("the service has no candidate to promote. Deploy one with --canary.")
        bundles = _over(current.args.bundles, {n: one.bundle for n, one in releases.items()})
        known = _over(current.args.fingerprints, {n: r.fingerprint for n, r in releases.items()})
        changes = {"bundles": bundles, "fingerprints": known, "releases": {}}
        return current.args.model_copy(update=changes), []


@dataclass(frozen=True, slots=True)
class Abort:
    """Take the candidates away."""

    kind: Kind = "abort"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """What is served, without candidates."""
        current = _needed(serving, "There is no candidate to take away")
        if not current.args.releases:
            raise ConfigError("the service has no candidate to take away.")
        return current.args.model_copy(update={"releases": {}}), []


@dataclass(frozen=True, slots=True)
class GoBack:
    """Serve the release before the one that is served."""

    history: History
    kind: Kind = "rollback"

    def resolve(self, serving: Serving | None) -> tuple[ServiceArgs, list[str]]:
        """The configuration of that release."""
        current = _needed(serving, "There is nothing to go back from")
        record = self.history.one_before(current.args)
        args, notes = Configure(record.args).resolve(serving)
        return args, [f"going back to release {record.number} of {record.time}", *notes]


def _needed(serving: Serving | None, why: str) -> Serving:
    if serving is None:
        raise ConfigError(f"{why}, and no service is running. Deploy a configuration first.")
    return serving


def _absolute(args: ServiceArgs) -> ServiceArgs:
    """Bundles by paths that mean the same in every process."""
    releases = {
        name: release.model_copy(update={"bundle": str(Path(release.bundle).absolute())})
        for name, release in args.releases.items()
    }
    bundles = {name: str(Path(path).absolute()) for name, path in args.bundles.items()}
    return args.model_copy(update={"bundles": bundles, "releases": releases})


def _over(all_of: Mapping[str, str], some: Mapping[str, str]) -> dict[str, str]:
    return {**all_of, **some}
