"""The names that requests use, and the model behind each of them at the moment.

A bundle of one task is a model under the bundle's name. A bundle of several tasks is a model for
each, under ``name/task``. A name's bundle can be exchanged between two requests; one that has
found its model keeps it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar, cast

from ray_sft.core import ServeError
from ray_sft.tasks import (
    CausalLanguageModel,
    Embedding,
    MultiLabelClassification,
    Ranking,
    SingleLabel,
    Task,
    TokenClassification,
    Translation,
)
from serve.args import ServiceArgs
from serve.caller import permit_model
from serve.errors import ApiError
from serve.loading import Loader
from serve.metrics import ServiceMetrics
from serve.outcomes import QueueFullError
from serve.release.arms import Arms
from serve.served import Encoder, Generator, LoadedBundle, Served, TextQueue, TranslatedText

__all__ = ["Encoder", "Generator", "Models", "TranslatedText", "load_models"]

_TASKS_OF: Mapping[str, tuple[type[Task], ...]] = {
    "/v1/classify": (SingleLabel, MultiLabelClassification),
    "/v1/entities": (TokenClassification,),
    "/v1/embeddings": (Embedding,),
    "/v1/rerank": (Ranking,),
    "/v1/score": (Ranking,),
    "/v1/translate": (Translation,),
}
"""The tasks that a route asks, where it asks one encoder."""

M = TypeVar("M", Encoder, Generator)
N = TypeVar("N", bound=Served)


class Models:
    """The models by the name that requests use."""

    def __init__(self, bundles: Mapping[str, LoadedBundle]) -> None:
        """Holds ``bundles``, whose order is that of the listing."""
        self.retiring: set[LoadedBundle] = set()
        """Bundles that have lost their name and finish what they have begun."""
        self.exchange(bundles, {})

    def exchange(self, bundles: Mapping[str, LoadedBundle], arms: Mapping[str, Arms]) -> None:
        """Lets the names mean ``bundles`` from now on; ``arms`` are those with a candidate.

        To be called from the event loop: no request stands between its lookups meanwhile.
        """
        self.bundles = dict(bundles)
        self.arms = dict(arms)
        self.has_candidates = bool(arms)
        self._models = {
            name: model for loaded in bundles.values() for name, model in loaded.models.items()
        }
        self._arms_by_model = {
            model: found for name, found in arms.items() for model in bundles[name].models
        }
        self._queues_of = {route: self._queues(tasks) for route, tasks in _TASKS_OF.items()}

    def any(self, name: str | None) -> tuple[str, Served]:
        """The model of a name, whatever its task; without a name the only one.

        Raises:
            ApiError: 404 for an unknown name, 400 where a name is needed.
        """
        return self._choose(name, self._models, "this route")

    def asked(self, name: str | None) -> tuple[str, Served]:
        """As `any`, for a request that the model answers: that may be one for a candidate."""
        found, model = self.any(name)
        arms = self._arms_by_model.get(found)
        return found, model if arms is None else arms.pick(found)

    def versions(self, name: str) -> dict[str, Served]:
        """What stands behind a name by its bundle's fingerprint; a candidate comes last."""
        loaded = [one for one in self.bundles.values() if name in one.models]
        if (arms := self._arms_by_model.get(name)) is not None:
            loaded.append(arms.candidate)
        return {one.fingerprint: one.models[name] for one in loaded}

    def refusal(self, route: str) -> QueueFullError | None:
        """What every request to a route would be told now; None where one might be answered."""
        refusals = [queue.refusal() for queue in self._queues_of.get(route, ())]
        told = [refusal for refusal in refusals if refusal is not None]
        if not told or len(told) < len(refusals):
            return None
        return min(told, key=lambda refusal: refusal.retry_after_s)

    def labeller(self, name: str | None) -> tuple[str, Encoder]:
        """The model of a name that gives texts one label or several; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _TASKS_OF["/v1/classify"], "/v1/classify")

    def classifier(self, name: str | None) -> tuple[str, Encoder]:
        """The classifier into one label of a name; without a name the only one.

        Raises:
            ApiError: 404 for an unknown name, 424 for a model of another task, 400 where a name
                is needed.
        """
        return self._find(name, Encoder, SingleLabel, "an application")

    def tagger(self, name: str | None) -> tuple[str, Encoder]:
        """The token classifier of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _TASKS_OF["/v1/entities"], "/v1/entities")

    def embedder(self, name: str | None) -> tuple[str, Encoder]:
        """The embedding model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _TASKS_OF["/v1/embeddings"], "/v1/embeddings")

    def ranker(self, name: str | None, route: str) -> tuple[str, Encoder]:
        """The ranking model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _TASKS_OF["/v1/rerank"], route)

    def translator(self, name: str | None) -> tuple[str, Encoder]:
        """The translation model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _TASKS_OF["/v1/translate"], "/v1/translate")

    def generator(self, name: str | None, route: str) -> tuple[str, Generator]:
        """The generator of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Generator, CausalLanguageModel, route)

    def joint(self, name: str, tasks: Sequence[str]) -> Encoder:
        """A head of bundle ``name`` whose queue answers for all of ``tasks`` at once.

        Raises:
            ServeError: there is no such bundle, or its heads do not run together.
        """
        heads = [self._models.get(f"{name}/{task}", self._models.get(name)) for task in tasks]
        first = heads[0] if heads else None
        if not isinstance(first, Encoder) or any(
            not isinstance(head, Encoder) or head.batcher is not first.batcher for head in heads
        ):
            raise ServeError(
                f"model '{name}' has no tasks {', '.join(tasks)} that run together. This service "
                f"has: {', '.join(self._models)}."
            )
        return first

    def describe(self) -> list[dict[str, object]]:
        """What `/v1/models` lists."""
        return [
            _describe(name, model, loaded)
            for loaded in self.bundles.values()
            for name, model in loaded.models.items()
        ]

    @property
    def names(self) -> list[str]:
        """The names, in the order of the listing."""
        return list(self._models)

    @property
    def full(self) -> list[str]:
        """Names of the models whose queue is full."""
        return [name for name, model in self._models.items() if model.is_full]

    def close(self) -> None:
        """Ends every thread."""
        for arms in self.arms.values():
            arms.close()
            arms.candidate.close()
        for loaded in (*self.bundles.values(), *self.retiring):
            loaded.close()

    def _queues(self, tasks: tuple[type[Task], ...]) -> list[TextQueue]:
        """Of the models of ``tasks`` and, where they have one, of their candidates."""
        loaded = [*self.bundles.values(), *(one.candidate for one in self.arms.values())]
        return [
            model.batcher
            for one in loaded
            for model in one.models.values()
            if isinstance(model, Encoder) and isinstance(model.task, tasks)
        ]

    def _find(
        self,
        name: str | None,
        kind: type[M],
        task: type[Task] | tuple[type[Task], ...],
        route: str,
    ) -> tuple[str, M]:
        fitting = {
            name: model
            for name, model in self._models.items()
            if isinstance(model, kind) and isinstance(model.task, task)
        }
        found, model = self._choose(name, fitting, route)
        if self._arms_by_model and (arms := self._arms_by_model.get(found)) is not None:
            return found, cast(M, arms.pick(found))
        return found, model

    def _choose(self, name: str | None, fitting: dict[str, N], route: str) -> tuple[str, N]:
        if name in fitting:
            permit_model(name)
            return name, fitting[name]
        if name in self._models:
            raise ApiError(
                424,
                f"model '{name}' is a {self._models[name].task.kind} model, which {route} cannot "
                f"ask. {_known(fitting)}",
                code="wrong_task",
                param="model",
            )
        if name is not None:
            raise ApiError(
                404,
                f"model '{name}' does not exist. {_known(fitting)}",
                code="model_not_found",
                param="model",
            )
        if len(fitting) == 1:
            permit_model(next(iter(fitting)))
            return next(iter(fitting.items()))
        raise ApiError(
            400 if fitting else 424,
            f"which model? {_known(fitting)}",
            code="missing_model" if fitting else "wrong_task",
            param="model",
        )


def load_models(args: ServiceArgs, *, num_threads: int, metrics: ServiceMetrics) -> Models:
    """Every bundle of ``args``, loaded, checked and warm; candidates are `Swapper`'s matter.

    Raises:
        BundleError: a bundle is damaged, or answers its own samples differently.
        ServeError: a bundle has a task or format that cannot be served.
    """
    loader = Loader(args, num_threads=num_threads, metrics=metrics)
    bundles = {
        name: loader.load(name, path, fingerprint=args.fingerprints.get(name, ""))
        for name, path in args.bundles.items()
    }
    for loaded in bundles.values():
        loaded.metrics.show()
    return Models(bundles)


def _describe(name: str, model: Served, loaded: LoadedBundle) -> dict[str, object]:
    created = model.bundle.manifest.created
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(created).timestamp()) if created else 0,
        "owned_by": "ray-sft",
        "task": model.task.kind,
        "variant": model.bundle.manifest.variant,
        "fingerprint": loaded.fingerprint,
    }


def _known(models: Mapping[str, object]) -> str:
    names = ", ".join(sorted(models))
    return f"This route has: {names}." if names else "This service has no model for this route."
