"""Deploying: check, record, apply, watch, and go back by itself where the release does not serve.

Everything that can be known before is asked before: a service is not touched for a bundle that is
damaged, answers its samples differently, or is worse than the one it replaces. Afterwards the
release has to prove itself; until it has, the way back is open.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError, RaySFTError, ServeError
from ray_sft.inference import Predictor, check_samples
from serve.args import ServiceArgs
from serve.release.findings import Finding
from serve.release.gate import check_budget_figures, inspect
from serve.release.golden import GoldenBundle
from serve.release.history import History, Record
from serve.release.plan import Plan, changed_settings, make_plan
from serve.release.swappable import holders, why_not_swapped
from serve.release.target import Serving, Target
from serve.release.watch import Watch
from serve.release.wishes import Wishes

__all__ = ["Deployment", "Refused"]

logger = logging.getLogger(__name__)


class Refused(ServeError):  # noqa: N818 - a decision, not a fault
    """A bundle is not deployed, for what it says of itself."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The bundles of a configuration, by model name."""

    bundles: Mapping[str, Bundle]
    candidates: Mapping[str, Bundle]

    @property
    def all(self) -> list[tuple[str, Bundle]]:
        """Both, with the names that they have or may get."""
        return [*self.bundles.items(), *self.candidates.items()]


@dataclass(frozen=True)
class Deployment:
    """What it takes to deploy."""

    target: Target
    history: History
    watch: Watch | None
    """None: do not wait, and so do not go back."""
    budget: Mapping[str, float] = field(default_factory=dict)
    """Allowed changes of figures from the bundle that is replaced."""
    force: bool = False
    """Deploys what is refused, and writes that down."""
    say: Callable[[str], None] = lambda _: None
    """Is told what is decided."""

    def run(self, wishes: Wishes) -> Record | None:
        """The record of what came of it; None where there was nothing to do.

        Raises:
            BundleError: a bundle is missing or damaged, or answers its samples differently.
            ConfigError: the wishes contradict what is served.
            Refused: a bundle's figures or gates speak against it.
            ServeError: the service cannot be reached, or has no room.
        """
        with self.history.locked():
            serving = self.target.current()
            args, notes = wishes.resolve(serving)
            for note in notes:
                self.say(note)
            release = serving.args.release if serving else 0
            opened, args = _open_all(args.model_copy(update={"release": release}))
            _check_candidates(args, opened)
            plan = self._plan(serving, args, opened)
            if plan.way == "nothing":
                self.say(plan.reasons[0])
                return None
            self._warn_of_overwritten(serving, args)
            overridden = self._inspect(serving, opened)
            self._try_samples(serving, opened)
            if serving is not None and self.history.adopt(serving.args):
                self.say("what is served was written down, so that there is a way back")
            if plan.way == "rolling":
                self.target.check_room(args)
                args = _with_new_replicas(serving, args, self.history)
            self.say(f"{_WAYS[plan.way]}: {'; '.join(plan.reasons)}")
            record = self.history.begin(
                args, kind=wishes.kind, way=plan.way, overridden=tuple(overridden)
            )
            return self._deploy(record, serving, opened)

    def _plan(self, serving: Serving | None, args: ServiceArgs, opened: _Opened) -> Plan:
        return make_plan(
            serving.args if serving else None,
            args,
            serving=serving.manifests if serving else {},
            manifests={name: bundle.manifest for name, bundle in opened.bundles.items()},
        )

    def _warn_of_overwritten(self, serving: Serving | None, args: ServiceArgs) -> None:
        """A replica keeps what it has loaded; a new one could not load it again."""
        if serving is None:
            return
        for name, path in serving.args.bundles.items():
            is_another = args.fingerprints.get(name) != serving.args.fingerprints[name]
            if args.bundles.get(name) == path and is_another:
                self.say(
                    f"'{name}': the bundle that is served was written over in '{path}', so the way "
                    "back to it ends with its replicas. Give every bundle a folder of its own."
                )

    def _inspect(self, serving: Serving | None, opened: _Opened) -> list[str]:
        """What was overridden by force.

        Raises:
            Refused: something speaks against a bundle, and there is no force.
        """
        check_budget_figures(self.budget, [bundle.manifest for _, bundle in opened.all])
        findings: list[Finding] = []
        for name, bundle in _new_bundles(serving, opened):
            replaced = serving.manifests.get(name) if serving else None
            findings += inspect(name, bundle, replaced, self.budget)
        for finding in findings:
            if not finding.refuses:
                self.say(f"'{finding.model}': {finding.text}")
        refusals = [f"'{one.model}': {one.text}" for one in findings if one.refuses]
        if refusals and not self.force:
            raise Refused(
                "the release is refused:\n  " + "\n  ".join(refusals) + "\nWiden the budget with "
                "--budget, or deploy it all the same with --force, which is written down."
            )
        for refusal in refusals:
            self.say(f"overridden by force: {refusal}")
        return refusals

    def _try_samples(self, serving: Serving | None, opened: _Opened) -> None:
        """Raises BundleError where a new bundle answers its samples differently on this machine."""
        for name, bundle in _new_bundles(serving, opened):
            self.say(f"'{name}': checking the samples of '{bundle.path}'")
            for predictor in Predictor.each(bundle, spinning=False).values():
                check_samples(predictor)

    def _deploy(self, record: Record, serving: Serving | None, opened: _Opened) -> Record:
        try:
            self.target.apply(record.args)
            if self.watch is None:
                return self.history.end(record, "applied")
            golden = _golden(record.args, opened)
            problem = self.watch.until_served(self.target, record.number, golden)
        except KeyboardInterrupt:
            self.history.end(record, "interrupted", "the command was interrupted")
            raise
        except RaySFTError as error:
            problem = str(error)
        if not problem:
            return self.history.end(record, "served")
        return self._go_back(record, serving, problem)

    def _go_back(self, record: Record, serving: Serving | None, problem: str) -> Record:
        self.say(f"release {record.number} does not serve: {problem}")
        if serving is None:
            self.target.remove()
            return self.history.end(record, "failed", f"{problem} There was nothing to go back to.")
        self.say(f"going back to release {serving.args.release}")
        try:
            self.target.apply(serving.args)
            assert self.watch is not None
            left = self.watch.until_served(self.target, serving.args.release, [])
        except RaySFTError as error:
            left = str(error)
        if left:
            self.say(f"the release before does not serve either: {left}")
            return self.history.end(record, "failed", f"{problem} Going back failed too: {left}")
        self.say(f"release {serving.args.release} serves again")
        return self.history.end(record, "returned", problem)


_WAYS = {
    "start": "starting the service",
    "swap": "changing the running replicas",
    "rolling": "a rolling update",
}


def _open_all(args: ServiceArgs) -> tuple[_Opened, ServiceArgs]:
    """Every bundle verified, and the arguments with what they were found to be."""
    bundles = {
        name: _open(name, path, args.fingerprints.get(name, ""))
        for name, path in args.bundles.items()
    }
    candidates = {
        name: _open(name, release.bundle, release.fingerprint)
        for name, release in args.releases.items()
    }
    releases = {
        name: release.model_copy(update={"fingerprint": candidates[name].fingerprint})
        for name, release in args.releases.items()
    }
    fingerprints = {name: bundle.fingerprint for name, bundle in bundles.items()}
    known = {"fingerprints": fingerprints, "releases": releases}
    return _Opened(bundles, candidates), args.model_copy(update=known)


def _open(name: str, path: str, fingerprint: str) -> Bundle:
    bundle = Bundle.open(path)
    if fingerprint and bundle.fingerprint != fingerprint:
        raise ServeError(
            f"'{path}' was written anew since it was released as '{name}' (fingerprint "
            f"{bundle.fingerprint[:12]}, not {fingerprint[:12]}), so that release cannot be served "
            "again. Deploy what the folder holds now, or put the former bundle back."
        )
    return bundle


def _check_candidates(args: ServiceArgs, opened: _Opened) -> None:
    """Raises ConfigError for a candidate that could never take the place it is a candidate for."""
    held = holders(args)
    for name, candidate in opened.candidates.items():
        reason = why_not_swapped(name, opened.bundles[name].manifest, candidate.manifest, held)
        if reason:
            raise ConfigError(
                f"{reason}; so it can have no candidate. Deploy the bundle itself: that is a "
                "rolling update, from which the way back is as short."
            )


def _new_bundles(serving: Serving | None, opened: _Opened) -> list[tuple[str, Bundle]]:
    """The bundles and candidates that are not loaded under their name already."""
    if serving is None:
        return opened.all
    loaded = set(serving.args.fingerprints.items())
    loaded |= {(name, one.fingerprint) for name, one in serving.args.releases.items()}
    return [
        (name, bundle) for name, bundle in opened.all if (name, bundle.fingerprint) not in loaded
    ]


def _with_new_replicas(serving: Serving | None, args: ServiceArgs, history: History) -> ServiceArgs:
    """Arguments whose version is another one, where the change itself does not make it so."""
    if serving is None or changed_settings(serving.args, args):
        return args
    newest = max((record.number for record in history.records()), default=0)
    return args.model_copy(update={"revision": f"release-{newest + 1}"})


def _golden(args: ServiceArgs, opened: _Opened) -> Sequence[GoldenBundle]:
    """Every bundle, and every candidate that answers requests."""
    found = []
    for name, bundle in opened.bundles.items():
        release = args.releases.get(name)
        percent = release.percent if release else 0.0
        salt = release.fingerprint if release else ""
        found.append(GoldenBundle(name, bundle, percent=percent, salt=salt))
        if release and percent:
            candidate = opened.candidates[name]
            found.append(
                GoldenBundle(name, candidate, is_candidate=True, percent=percent, salt=salt)
            )
    return found
