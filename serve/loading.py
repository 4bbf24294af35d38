"""Making a bundle ready to serve: opened, verified, checked on its own samples, warm.

A bundle of one task is a model under the bundle's name. A bundle of several tasks is a model for
each, under ``name/task``; heads that read the same input are run together, in one forward pass.
Everything here takes seconds and keeps the processors busy: not for an event loop.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from pydantic import BaseModel

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError, ServeError
from ray_sft.inference import PagedRunner, Predictor, TorchRunner, check_samples, open_engine
from ray_sft.inference.translator import Translator
from ray_sft.tasks import (
    CausalLanguageModel,
    Encoded,
    Example,
    MaskedLanguageModel,
    MultiLabelClassification,
    Row,
    SingleLabel,
    Translation,
)
from serve.args import ServiceArgs
from serve.batcher import Batchable, Batcher
from serve.bundle_metrics import BundleMetrics
from serve.metrics import ServiceMetrics
from serve.release.watched_engine import WatchedEngine
from serve.served import (
    Encoder,
    Generator,
    JointResponse,
    LoadedBundle,
    Served,
    TranslatedText,
)
from serve.warm_up import first_sample, warm_engine, warm_predictor

__all__ = ["Loader"]

logger = logging.getLogger(__name__)

_LABELLERS = (SingleLabel, MultiLabelClassification)
"""Tasks that give a text labels out of a list."""


_Made: TypeAlias = tuple[dict[str, Served], Callable[[], None]]
"""The models of a bundle, and what frees their weights."""


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


class Loader:
    """Loads bundles as the service's arguments say. Use it from any thread."""

    def __init__(self, args: ServiceArgs, *, num_threads: int, metrics: ServiceMetrics) -> None:
        """Every model computes on ``num_threads`` threads."""
        self._args = args
        self._num_threads = num_threads
        self._metrics = metrics
        # threads that spin while they wait answer sooner, and steal time from another model's
        self._spinning = len(args.bundles) == 1 and not args.releases and args.most_replicas == 1

    def load(self, name: str, path: str, *, fingerprint: str = "") -> LoadedBundle:
        """The bundle in ``path`` under a model name; its figures are not shown yet.

        Raises:
            BundleError: it is missing or damaged, not the one of ``fingerprint``, or answers its
                own samples differently.
            ServeError: it has a task or format that cannot be served.
        """
        bundle = Bundle.open(path)
        found = bundle.fingerprint
        if fingerprint and found != fingerprint:
            raise BundleError(
                f"bundle '{path}' is not the one that was released as '{name}': its fingerprint is "
                f"{found[:12]}, that of the release {fingerprint[:12]}. Its folder was written "
                "anew since; deploy it again."
            )
        figures = BundleMetrics(self._metrics)
        generates = any(isinstance(t, CausalLanguageModel) for t in bundle.manifest.tasks.values())
        make = self._generator if generates else self._encoders
        models, release = make(name, bundle, figures)
        samples = {
            model_name: sample
            for model_name, model in models.items()
            if (sample := first_sample(bundle, model.task_name))
        }
        loaded = LoadedBundle(name, path, found, bundle, models, figures, release, samples)
        if bundle.fingerprint != found:
            loaded.close()
            raise BundleError(f"bundle '{path}' was replaced while it was loaded. Deploy it again.")
        return loaded

    def _encoders(self, name: str, bundle: Bundle, figures: BundleMetrics) -> _Made:
        predictors = Predictor.each(bundle, num_threads=self._num_threads, spinning=self._spinning)
        for task, predictor in predictors.items():
            self._prepare(name, task, predictor)
        found: dict[str, Served] = {}
        for heads in _run_together(predictors):
            queue_name = name if len(predictors) == 1 else f"{name}/{'+'.join(heads)}"
            batcher = Batcher(
                _batchable(heads),
                max_batch_tokens=self._args.batch_tokens,
                max_queued=self._args.max_queued,
                max_wait_s=self._args.max_wait_s,
                on_batch=partial(figures.record_batch, queue_name),
            )
            figures.add(queue_name, queued=partial(_num_queued, batcher))
            for task, predictor in heads.items():
                model_name = name if len(predictors) == 1 else f"{name}/{task}"
                found[model_name] = Encoder(
                    bundle, task, predictor.task, batcher, predictor.processor
                )
        return found, next(iter(predictors.values())).release

    def _prepare(self, name: str, task: str, predictor: Predictor) -> None:
        if isinstance(predictor.task, MaskedLanguageModel):
            raise ServeError(
                f"bundle '{predictor.bundle.path}' guesses hidden words ({predictor.task.kind}), "
                "which no route asks for. Serve a bundle that was trained further from it."
            )
        check_samples(predictor)
        logger.info("model '%s', task '%s' answers its samples", name, task)
        if not isinstance(predictor.task, Translation):  # its samples ran at their own lengths
            ran = warm_predictor(predictor, max_batch_tokens=self._args.batch_tokens)
            logger.debug("model '%s', task '%s' ran batches of %s", name, task, ran)

    def _generator(self, name: str, bundle: Bundle, figures: BundleMetrics) -> _Made:
        predictor = Predictor(bundle, num_threads=self._num_threads, spinning=self._spinning)
        check_samples(predictor)
        logger.info("model '%s' from '%s' answers its samples", name, bundle.path)
        if bundle.manifest.format != "onnx":
            raise ServeError(
                f"bundle '{bundle.path}' holds {bundle.manifest.format} weights; text is generated "
                "from ONNX bundles only. Serve the run's compressed bundle ('onnx', 'int8', "
                "'int4')."
            )
        if isinstance(predictor.model, PagedRunner):
            predictor.release()  # the engine's graph holds the weights, too, on the same device
        engine = WatchedEngine(
            open_engine(
                bundle,
                num_slots=self._args.num_slots,
                num_threads=self._num_threads,
                max_queued=self._args.max_queued,
                max_cached_tokens=self._args.prefix_tokens,
                spinning=self._spinning,
            )
        )
        warm_engine(engine, num_slots=self._args.num_slots)
        figures.add(name, queued=lambda: engine.num_queued, active=lambda: engine.num_active)
        model = Generator(bundle, predictor.name, predictor.task, engine, self._args.max_queued)
        return {name: model}, predictor.release


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
