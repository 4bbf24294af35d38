"""A model name with two bundles: the one that serves it and a candidate for its place."""

from dataclasses import replace

from ray_sft.core import ServeError
from serve.release.asked import ASKED, Arm
from serve.release.choose import is_chosen
from serve.release.figures import CandidateReport, Figures
from serve.release.reply_shadow import ReplyShadow, ReplyWatch
from serve.release.settings import Release
from serve.release.text_shadow import TextShadow, WatchedQueue
from serve.release.watched_engine import WatchedEngine
from serve.served import Encoder, Generator, LoadedBundle, Served, TextQueue

__all__ = ["Arms"]


class Arms:
    """Which of two bundles answers, and what is learned of them meanwhile."""

    def __init__(
        self,
        release: Release,
        current: LoadedBundle,
        candidate: LoadedBundle,
        figures: Figures,
    ) -> None:
        """Both bundles have the same tasks; nothing is watched before `start`.

        Raises:
            ServeError: a decoder is to be shadowed by one that splits texts into other tokens.
        """
        if release.shadow and _generates(current):
            _check_tokens(current, candidate)
        self.release = release
        self.current = current
        self.candidate = candidate
        self.figures = figures
        self._shadows: list[TextShadow | ReplyShadow] = []
        self._watches: list[tuple[WatchedEngine, ReplyWatch]] = []
        self._models: dict[Arm, dict[str, Served]] = {
            "current": self._watched("current", current),
            "candidate": self._watched("candidate", candidate),
        }

    def start(self) -> None:
        """Follows the replies of both from now on; texts are followed by `pick`."""
        for engine, watch in self._watches:
            engine.follow = watch.follow

    @property
    def salt(self) -> str:
        """What the choice depends on beside the request."""
        return self.candidate.fingerprint

    def pick(self, name: str) -> Served:
        """The model of a name for the request that is being answered."""
        asked = ASKED.get()
        if asked is None:
            return self.current.models[name]
        chosen = is_chosen(asked.key, self.salt, percent=self.release.percent)
        asked.arm = "candidate" if chosen else "current"
        return self._models[asked.arm][name]

    def report(self) -> CandidateReport:
        """What is known by now."""
        return self.figures.report(
            bundle=self.candidate.path,
            fingerprint=self.candidate.fingerprint,
            variant=self.candidate.bundle.manifest.variant,
            percent=self.release.percent,
            shadow=self.release.shadow,
        )

    def close(self) -> None:
        """Ends the comparison; the bundles stay as they are."""
        for engine, _ in self._watches:
            engine.follow = None
        for shadow in self._shadows:
            shadow.close()

    def _watched(self, arm: Arm, loaded: LoadedBundle) -> dict[str, Served]:
        """The models of a bundle, telling what they do; heads of one queue share what is told."""
        queues: dict[int, TextQueue] = {}
        found: dict[str, Served] = {}
        for name, model in loaded.models.items():
            if isinstance(model, Generator):
                self._watch_engine(arm, name, model)
                found[name] = model
                continue
            place = id(model.batcher)
            if place not in queues:
                queues[place] = self._watched_queue(arm, name, model)
            found[name] = replace(model, batcher=queues[place])
        return found

    def _watched_queue(self, arm: Arm, name: str, model: Encoder) -> TextQueue:
        shadow: TextShadow | None = None
        candidate = self.candidate.models[name]
        if arm == "current" and self.release.shadow and isinstance(candidate, Encoder):
            shadow = TextShadow(
                model.batcher,
                candidate.batcher,
                self.figures,
                task=model.task_name,
                percent=self.release.shadow,
                salt=self.salt,
            )
            self._shadows.append(shadow)
        return WatchedQueue(model.batcher, arm, self.figures, shadow)

    def _watch_engine(self, arm: Arm, name: str, model: Generator) -> None:
        shadow: ReplyShadow | None = None
        candidate = self.candidate.models[name]
        assert isinstance(model.engine, WatchedEngine)
        if arm == "current" and self.release.shadow and isinstance(candidate, Generator):
            assert isinstance(candidate.engine, WatchedEngine)
            shadow = ReplyShadow(
                model.engine,
                candidate.engine.unwatched,  # a shadow is nobody's request
                self.figures,
                task=model.task_name,
                percent=self.release.shadow,
                salt=self.salt,
            )
            self._shadows.append(shadow)
        self._watches.append((model.engine, ReplyWatch(arm, self.figures, shadow)))


def _generates(loaded: LoadedBundle) -> bool:
    return any(isinstance(model, Generator) for model in loaded.models.values())


def _check_tokens(current: LoadedBundle, candidate: LoadedBundle) -> None:
    mine, theirs = (
        {
            name: entry.sha256
            for name, entry in one.bundle.manifest.files.items()
            if name.startswith("processor/")
        }
        for one in (current, candidate)
    )
    if mine != theirs:
        raise ServeError(
            f"candidate '{candidate.path}' splits texts into other tokens than '{current.path}', "
            f"so it cannot be shown the same prompts. Leave out releases.{current.name}.shadow and "
            "give it a percent of the requests."
        )
