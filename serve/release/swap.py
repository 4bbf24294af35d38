"""Exchanging the bundles of a running replica, without a request noticing.

What is wanted is opened, verified, checked on its samples and warmed up in a thread while the old
bundles serve; then all names change between two requests. Requests that have found an old bundle
are finished by it; when it has had nothing to do for a while, it is closed. Until then both are in
memory: a replica needs room for a second copy of what is exchanged. Where anything is wrong with
anything, nothing changes, and the report says why.
"""

import asyncio
import ctypes
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ray_sft.core import RaySFTError, ServeError
from serve.bundle_metrics import CANDIDATE
from serve.loading import Loader
from serve.models import Models
from serve.release.arms import Arms
from serve.release.counters import ReleaseCounters
from serve.release.figures import Figures
from serve.release.report import ReplicaReport, ReplicaState, describe_bundles
from serve.release.settings import Release, Wanted
from serve.release.swappable import Holder, why_not_swapped
from serve.served import LoadedBundle

__all__ = ["Swapper"]

logger = logging.getLogger(__name__)

_GRACE_S = 5.0
"""A request may have found an old bundle and not have asked it yet, for as long as this."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    bundles: dict[str, LoadedBundle]
    candidates: dict[str, LoadedBundle]
    fresh: list[LoadedBundle]
    """Those of both that were not there before."""


class Swapper:
    """Keeps the models of one process at what is wanted. Use it from the models' event loop."""

    def __init__(
        self,
        models: Models,
        loader: Loader,
        counters: ReleaseCounters,
        *,
        wanted: Wanted,
        held: Mapping[str, Holder],
        replica: str = "local",
        grace_s: float = _GRACE_S,
    ) -> None:
        """``models`` serve the bundles of ``wanted``; its candidates are loaded by `open`."""
        self._models = models
        self._loader = loader
        self._counters = counters
        self._wanted = wanted
        self.served = wanted
        """What the models are; ``wanted`` until `open` or `apply` says otherwise."""
        self._held = held
        self._replica = replica
        self._grace_s = grace_s
        self._state: ReplicaState = "steady"
        self._problem = ""
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        counters.serves(wanted.release)

    def open(self) -> None:
        """Loads the candidates, before the first request; a bad one is left out and reported."""
        if not self._wanted.releases:
            return
        try:
            self._take_up(self._wanted, self._load(self._wanted))
        except RaySFTError as error:
            self._fail(self._wanted, error)

    async def apply(self, wanted: Wanted) -> None:
        """Serves ``wanted`` from some time on, or goes on as before; `report` says which."""
        if wanted == self._wanted and self._state != "failed":
            return
        async with self._changing:
            self._wanted, self._state, self._problem = wanted, "changing", ""
            try:
                loaded = await asyncio.to_thread(self._load, wanted)
                self._take_up(wanted, loaded)
            except RaySFTError as error:
                self._fail(wanted, error)
            except Exception as error:  # a library's; the replica has to go on serving
                logger.exception("release %d could not be taken up", wanted.release)
                self._fail(wanted, ServeError(f"{type(error).__name__}: {error}"))

    def refuse(self, problem: str) -> None:
        """Goes on as before, and says that what was asked for makes no sense."""
        self._state, self._problem = "failed", problem
        self._counters.swapped("failed")
        logger.error("a change is not taken up: %s", problem)

    def report(self) -> ReplicaReport:
        """What is served, and what became of the last change."""
        return ReplicaReport(
            replica=self._replica,
            release=self.served.release,
            wanted=self._wanted.release,
            state=self._state,
            problem=self._problem,
            models=describe_bundles(self._models.bundles),
            candidates={name: arms.report() for name, arms in self._models.arms.items()},
        )

    async def settled(self) -> None:
        """Returns when no old bundle is left; for tests and for a stop in order."""
        while self._retiring:
            await asyncio.gather(*self._retiring)

    def _load(self, wanted: Wanted) -> _Loaded:
        """Everything that is wanted: what is there already, and the rest loaded.

        Raises:
            BundleError: as `Loader.load`.
            ServeError: a bundle cannot take the place of the one that serves.
        """
        current = self._models.bundles
        if set(wanted.bundles) != set(current):
            raise ServeError(
                f"the service has the models {', '.join(current)}, and "
                f"{', '.join(wanted.bundles)} are wanted. Names change by a rolling update alone."
            )
        fresh: list[LoadedBundle] = []
        try:
            bundles = {
                name: self._get(name, path, wanted.fingerprints.get(name, ""), fresh)
                for name, path in wanted.bundles.items()
            }
            candidates = {
                name: self._get(name, release.bundle, release.fingerprint, fresh)
                for name, release in wanted.releases.items()
            }
            self._check(bundles)
            self._check(candidates)
        except BaseException:
            _close(fresh)
            raise
        return _Loaded(bundles, candidates, fresh)

    def _get(
        self, name: str, path: str, fingerprint: str, fresh: list[LoadedBundle]
    ) -> LoadedBundle:
        arms = self._models.arms.get(name)
        there = [self._models.bundles[name], *([arms.candidate] if arms else []), *fresh]
        for loaded in there:
            if loaded.name == name and loaded.is_the_one_of(path, fingerprint):
                return loaded
        logger.info("loading '%s' for model '%s' beside the one that serves", path, name)
        loaded = self._loader.load(name, path, fingerprint=fingerprint)
        fresh.append(loaded)
        return loaded

    def _check(self, bundles: Mapping[str, LoadedBundle]) -> None:
        for name, loaded in bundles.items():
            serving = self._models.bundles[name]
            if loaded is serving:
                continue
            reason = why_not_swapped(
                name, serving.bundle.manifest, loaded.bundle.manifest, self._held
            )
            if reason:
                raise ServeError(f"{reason}; it is changed by a rolling update alone.")

    def _take_up(self, wanted: Wanted, loaded: _Loaded) -> None:
        """Lets requests meet what was loaded. There is no await in here."""
        try:
            arms = {
                name: self._arms(wanted.releases[name], loaded.bundles[name], candidate)
                for name, candidate in loaded.candidates.items()
                if candidate is not loaded.bundles[name]
            }
        except BaseException:
            _close(loaded.fresh)
            raise
        former = self._models.arms
        old = {*self._models.bundles.values(), *(one.candidate for one in former.values())}
        for one in former.values():
            one.close()
            one.candidate.metrics.hide()
        self._models.exchange(loaded.bundles, arms)
        for bundle in loaded.bundles.values():
            bundle.metrics.show()
        for one in arms.values():
            one.start()
            one.candidate.metrics.show(CANDIDATE)
        for bundle in old - {*loaded.bundles.values(), *loaded.candidates.values()}:
            self._retire(bundle)
        self._wanted, self.served, self._state = wanted, wanted, "steady"
        self._counters.serves(wanted.release)
        self._counters.swapped("done")
        logger.info("release %d is served", wanted.release)

    def _arms(self, release: Release, current: LoadedBundle, candidate: LoadedBundle) -> Arms:
        """What is known of the same two bundles stays known when their shares change."""
        former = self._models.arms.get(current.name)
        is_same = former and former.current is current and former.candidate is candidate
        figures = former.figures if former and is_same else Figures(current.name, self._counters)
        return Arms(release, current, candidate, figures)

    def _fail(self, wanted: Wanted, error: Exception) -> None:
        self.refuse(f"release {wanted.release}: {error}")

    def _retire(self, loaded: LoadedBundle) -> None:
        self._models.retiring.add(loaded)
        task = asyncio.create_task(self._close_when_idle(loaded))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_when_idle(self, loaded: LoadedBundle) -> None:
        await asyncio.sleep(self._grace_s)
        while not loaded.is_idle:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(loaded.close)
        self._models.retiring.discard(loaded)
        logger.info("the former bundle of model '%s' ('%s') is closed", loaded.name, loaded.path)
        del loaded
        await asyncio.to_thread(_give_memory_back)


def _close(bundles: Iterable[LoadedBundle]) -> None:
    for loaded in bundles:
        loaded.close()


def _give_memory_back() -> None:
    """Lets the C library return to the system what was freed, where it keeps it.

    glibc held a third more than a fresh process after ten swaps of an 88 MB graph without this.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
