"""The models of a service: every bundle opened, checked against its own samples, ready to run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from ray_sft.inference import GenerationEngine, Predictor, check_samples
from ray_sft.tasks import CausalLanguageModel, SequenceClassification
from serve.args import ServiceArgs
from serve.batcher import Batcher
from serve.errors import ApiError
from serve.metrics import ServiceMetrics

__all__ = ["Classifier", "Generator", "Models", "load_models"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model that `/v1/classify` asks."""

    bundle: Bundle
    batcher: Batcher

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.batcher.is_full

    def close(self) -> None:
        """Ends its thread."""
        self.batcher.close()


@dataclass(frozen=True, slots=True)
class Generator:
    """A model that `/v1/chat/completions` asks."""

    bundle: Bundle
    engine: GenerationEngine
    max_queued: int

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.engine.num_queued >= self.max_queued

    def close(self) -> None:
        """Ends its thread."""
        self.engine.close()


M = TypeVar("M", Classifier, Generator)


class Models:
    """The models by the name that requests use."""

    def __init__(self, models: Mapping[str, Classifier | Generator]) -> None:
        """Holds ``models``, whose order is that of the listing."""
        self._models = dict(models)

    def classifier(self, name: str | None) -> tuple[str, Classifier]:
        """The classifier of a name; without a name the only one.

        Raises:
            ApiError: 404 for an unknown name, 424 for a model of another task, 400 where a name
                is needed.
        """
        return self._find(name, Classifier, "/v1/classify")

    def generator(self, name: str | None) -> tuple[str, Generator]:
        """The generator of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Generator, "/v1/chat/completions")

    def describe(self) -> list[dict[str, object]]:
        """What `/v1/models` lists."""
        return [_describe(name, model.bundle) for name, model in self._models.items()]

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
        for model in self._models.values():
            model.close()

    def _find(self, name: str | None, kind: type[M], route: str) -> tuple[str, M]:
        fitting = {name: model for name, model in self._models.items() if isinstance(model, kind)}
        if name in fitting:
            return name, fitting[name]
        if name in self._models:
            task = next(iter(self._models[name].bundle.manifest.tasks.values())).kind
            raise ApiError(
                424,
                f"model '{name}' is a {task} model, which {route} cannot ask. {_known(fitting)}",
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
            return next(iter(fitting.items()))
        raise ApiError(
            400 if fitting else 424,
            f"which model? {_known(fitting)}",
            code="missing_model" if fitting else "wrong_task",
            param="model",
        )


def load_models(args: ServiceArgs, *, num_threads: int, metrics: ServiceMetrics) -> Models:
    """Every bundle of ``args``, loaded, checked and warm.

    Raises:
        BundleError: a bundle is damaged, or answers its own samples differently.
        ServeError: a bundle has a task or format that cannot be served.
    """
    # threads that spin while they wait answer sooner, and steal time from another model's
    spinning = len(args.bundles) == 1
    return Models(
        {
            name: _load(name, Bundle.open(path), args, num_threads, spinning, metrics)
            for name, path in args.bundles.items()
        }
    )


def _load(
    name: str,
    bundle: Bundle,
    args: ServiceArgs,
    num_threads: int,
    spinning: bool,
    metrics: ServiceMetrics,
) -> Classifier | Generator:
    if len(bundle.manifest.tasks) != 1:
        raise ServeError(
            f"bundle '{bundle.path}' has {len(bundle.manifest.tasks)} tasks; the service takes "
            "bundles of one."
        )
    predictor = Predictor(bundle, num_threads=num_threads, spinning=spinning)
    check_samples(predictor)
    logger.info("model '%s' from '%s' answers its samples", name, bundle.path)
    if isinstance(bundle.task, SequenceClassification):
        batcher = Batcher(
            predictor,
            max_batch_tokens=args.max_batch_tokens,
            max_queued=args.max_queued,
            on_batch=partial(metrics.record_batch, name),
        )
        metrics.queued.labels(name).set_function(lambda: batcher.num_queued)
        return Classifier(bundle, batcher)
    assert isinstance(bundle.task, CausalLanguageModel)
    if bundle.manifest.format != "onnx":
        raise ServeError(
            f"bundle '{bundle.path}' holds {bundle.manifest.format} weights; text is generated "
            "from ONNX bundles only. Serve the run's compressed bundle ('onnx', 'int8', 'int4')."
        )
    engine = GenerationEngine(
        bundle,
        num_slots=args.num_slots,
        num_threads=num_threads,
        max_queued=args.max_queued,
        spinning=spinning,
    )
    metrics.queued.labels(name).set_function(lambda: engine.num_queued)
    metrics.active.labels(name).set_function(lambda: engine.num_active)
    return Generator(bundle, engine, args.max_queued)


def _describe(name: str, bundle: Bundle) -> dict[str, object]:
    created = bundle.manifest.created
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(created).timestamp()) if created else 0,
        "owned_by": "ray-sft",
        "task": bundle.task.head,
        "variant": bundle.manifest.variant,
        "fingerprint": bundle.fingerprint,
    }


def _known(models: Mapping[str, object]) -> str:
    names = ", ".join(sorted(models))
    return f"This route has: {names}." if names else "This service has no model for this route."
