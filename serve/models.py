"""The models of a service: every bundle opened, checked against its own samples, ready to run.

A bundle of one task is a model under the bundle's name. A bundle of several tasks is a model for
each, under ``name/task``; heads that read the same input are run together, in one forward pass.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from ray_sft.inference import GenerationEngine, Predictor, TorchRunner, check_samples
from ray_sft.inference.translator import Translator
from ray_sft.tasks import (
    CausalLanguageModel,
    Embedding,
    Encoded,
    Example,
    MaskedLanguageModel,
    MultiLabelClassification,
    Ranking,
    Row,
    SingleLabel,
    Task,
    TokenClassification,
    Translation,
)
from serve.args import ServiceArgs
from serve.batcher import Batchable, Batcher
from serve.errors import ApiError
from serve.metrics import ServiceMetrics
from serve.outcomes import Answer

__all__ = ["Encoder", "Generator", "Models", "TranslatedText", "load_models"]

logger = logging.getLogger(__name__)


class JointResponse(BaseModel):
    """What the heads of a model say of one input, by task."""

    by_task: dict[str, Any]


class _JointHeads:
    """Heads that read the same input, as one thing to batch."""

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self._predictors = predictors
        self._first = next(iter(predictors.values()))

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        return self._first.encode(rows)

    def run(self, examples: Sequence[Example]) -> list[BaseModel]:
        answers = self._first.run_all(examples, self._predictors)
        return [JointResponse.model_construct(by_task=answer) for answer in answers]


class TranslatedText(BaseModel):
    """What a translation model has written."""

    text: str
    num_tokens: int
    is_whole: bool


class _Translating:
    """A translation model as something to batch."""

    def __init__(self, predictor: Predictor) -> None:
        model, task = predictor.model, predictor.task
        assert isinstance(task, Translation)
        module = model.module if isinstance(model, TorchRunner) else model
        self._translator = Translator(module, predictor.processor, task)

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        return self._translator.task.encode(rows, self._translator.processor)

    def run(self, examples: Sequence[Example]) -> list[BaseModel]:
        return [
            TranslatedText(text=one.text, num_tokens=one.num_tokens, is_whole=one.is_whole)
            for one in self._translator.run(examples)
        ]


@dataclass(frozen=True, slots=True)
class Encoder:
    """One head of a model behind a queue; heads that run together share the queue."""

    bundle: Bundle
    task_name: str
    task: Task
    batcher: Batcher

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.batcher.is_full

    async def submit(self, rows: Sequence[Row]) -> list[Answer | ServeError]:
        """See `Batcher.submit`; each answer is that of this head."""
        answers = await self.batcher.submit(rows)
        return [self._own(answer) for answer in answers]

    async def submit_joint(
        self, rows: Sequence[Row], *, cut: bool = False
    ) -> list[Mapping[str, BaseModel] | ServeError]:
        """What every head of the queue says of each row, by task, or what was wrong.

        ``cut`` as for `Batcher.submit`.
        """
        return [
            answer if isinstance(answer, ServeError) else self._every(answer.response)
            for answer in await self.batcher.submit(rows, cut=cut)
        ]

    def close(self) -> None:
        """Ends its thread; closing again does nothing."""
        self.batcher.close()

    def _every(self, response: BaseModel) -> Mapping[str, BaseModel]:
        if isinstance(response, JointResponse):
            return response.by_task
        return {self.task_name: response}

    def _own(self, answer: Answer | ServeError) -> Answer | ServeError:
        if isinstance(answer, Answer) and isinstance(answer.response, JointResponse):
            response: BaseModel = answer.response.by_task[self.task_name]
            return Answer(response, answer.num_tokens, answer.timing)
        return answer


@dataclass(frozen=True, slots=True)
class Generator:
    """A model that `/v1/chat/completions` asks."""

    bundle: Bundle
    task_name: str
    task: Task
    engine: GenerationEngine
    max_queued: int

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.engine.num_queued >= self.max_queued

    def close(self) -> None:
        """Ends its thread."""
        self.engine.close()


_LABELLERS = (SingleLabel, MultiLabelClassification)
"""Tasks that give a text labels out of a list."""

M = TypeVar("M", Encoder, Generator)


class Models:
    """The models by the name that requests use."""

    def __init__(self, models: Mapping[str, Encoder | Generator]) -> None:
        """Holds ``models``, whose order is that of the listing."""
        self._models = dict(models)

    def labeller(self, name: str | None) -> tuple[str, Encoder]:
        """The model of a name that gives texts one label or several; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, _LABELLERS, "/v1/classify")

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
        return self._find(name, Encoder, TokenClassification, "/v1/entities")

    def embedder(self, name: str | None) -> tuple[str, Encoder]:
        """The embedding model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, Embedding, "/v1/embeddings")

    def ranker(self, name: str | None, route: str) -> tuple[str, Encoder]:
        """The ranking model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, Ranking, route)

    def translator(self, name: str | None) -> tuple[str, Encoder]:
        """The translation model of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Encoder, Translation, "/v1/translate")

    def generator(self, name: str | None) -> tuple[str, Generator]:
        """The generator of a name; without a name the only one.

        Raises:
            ApiError: as `classifier`.
        """
        return self._find(name, Generator, CausalLanguageModel, "/v1/chat/completions")

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
        return [_describe(name, model) for name, model in self._models.items()]

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
        if name in fitting:
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
    loaded: dict[str, Encoder | Generator] = {}
    for name, path in args.bundles.items():
        bundle = Bundle.open(path)
        if any(isinstance(task, CausalLanguageModel) for task in bundle.manifest.tasks.values()):
            loaded[name] = _load_generator(name, bundle, args, num_threads, spinning, metrics)
        else:
            loaded |= _load_encoders(name, bundle, args, num_threads, spinning, metrics)
    return Models(loaded)


def _load_encoders(
    name: str,
    bundle: Bundle,
    args: ServiceArgs,
    num_threads: int,
    spinning: bool,
    metrics: ServiceMetrics,
) -> dict[str, Encoder]:
    predictors = Predictor.each(bundle, num_threads=num_threads, spinning=spinning)
    for task, predictor in predictors.items():
        if isinstance(predictor.task, MaskedLanguageModel):
            raise ServeError(
                f"bundle '{bundle.path}' guesses hidden words ({predictor.task.kind}), which no "
                "route asks for. Serve a bundle that was trained further from it."
            )
        check_samples(predictor)
        logger.info("model '%s', task '%s' answers its samples", name, task)
    found = {}
    for heads in _run_together(predictors):
        head_name = name if len(predictors) == 1 else f"{name}/{'+'.join(heads)}"
        batcher = Batcher(
            _batchable(heads),
            max_batch_tokens=args.max_batch_tokens,
            max_queued=args.max_queued,
            on_batch=partial(metrics.record_batch, head_name),
        )
        metrics.queued.labels(head_name).set_function(partial(_num_queued, batcher))
        for task, predictor in heads.items():
            model_name = name if len(predictors) == 1 else f"{name}/{task}"
            found[model_name] = Encoder(bundle, task, predictor.task, batcher)
    return found


def _run_together(predictors: Mapping[str, Predictor]) -> list[dict[str, Predictor]]:
    """Classifiers of equal length read the same input; every other head has a queue of its own."""
    groups: dict[object, dict[str, Predictor]] = {}
    for name, predictor in predictors.items():
        task = predictor.task
        alike = ("classify", task.max_length) if isinstance(task, _LABELLERS) else name
        groups.setdefault(alike, {})[name] = predictor
    return list(groups.values())


def _batchable(heads: Mapping[str, Predictor]) -> Batchable:
    if len(heads) > 1:
        return _JointHeads(heads)
    (predictor,) = heads.values()
    return _Translating(predictor) if isinstance(predictor.task, Translation) else predictor


def _num_queued(batcher: Batcher) -> int:
    return batcher.num_queued


def _load_generator(
    name: str,
    bundle: Bundle,
    args: ServiceArgs,
    num_threads: int,
    spinning: bool,
    metrics: ServiceMetrics,
) -> Generator:
    predictor = Predictor(bundle, num_threads=num_threads, spinning=spinning)
    check_samples(predictor)
    logger.info("model '%s' from '%s' answers its samples", name, bundle.path)
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
    return Generator(bundle, predictor.name, predictor.task, engine, args.max_queued)


def _describe(name: str, model: Encoder | Generator) -> dict[str, object]:
    created = model.bundle.manifest.created
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(created).timestamp()) if created else 0,
        "owned_by": "ray-sft",
        "task": model.task.kind,
        "variant": model.bundle.manifest.variant,
        "fingerprint": model.bundle.fingerprint,
    }


def _known(models: Mapping[str, object]) -> str:
    names = ", ".join(sorted(models))
    return f"This route has: {names}." if names else "This service has no model for this route."
