"""A bundle that answers: rows in, the task's responses out.

The same calls as in training and evaluation (``task.encode``, ``collate``, ``predict``,
``decode``), so what was measured is what is served. Text generation is in `generation`.
"""

from collections.abc import Mapping, Sequence
from typing import Self, TypeAlias

import numpy as np
from pydantic import BaseModel

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from ray_sft.inference.batches import plan_batches
from ray_sft.inference.cuda import decoder_device
from ray_sft.inference.paged_runner import PagedRunner
from ray_sft.inference.runners import HeadRunner, OnnxRunner, TorchRunner
from ray_sft.inference.seq2seq import Seq2SeqRunner
from ray_sft.models import load_processor, load_tasks, uses_heads
from ray_sft.tasks import (
    IGNORED,
    Array,
    Encoded,
    Example,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
)

__all__ = ["Predictor"]

_Model: TypeAlias = OnnxRunner | PagedRunner | Seq2SeqRunner | TorchRunner


class Predictor:
    """The model, processor and one task of a bundle, ready to run.

    On the CPU, but for a decoder that was exported for CUDA.
    """

    def __init__(self, bundle: Bundle, *, num_threads: int = 1, spinning: bool = True) -> None:
        """Loads a bundle of one task; ``spinning`` is False where predictors share a machine.

        Raises:
            BundleError: the graph is missing or cannot be loaded, or there are several tasks.
        """
        (name, *others) = bundle.manifest.tasks
        if others:
            raise BundleError(
                f"bundle '{bundle.path}' has the tasks {', '.join(bundle.manifest.tasks)}. "
                "Name one of them."
            )
        processor = load_processor(bundle.processor_dir)
        model = _open(bundle, processor, num_threads=num_threads, spinning=spinning)
        self._take(bundle, name, processor, model)

    @classmethod
    def each(
        cls, bundle: Bundle, *, num_threads: int = 1, spinning: bool = True
    ) -> dict[str, Self]:
        """A predictor for every task of a bundle, by name; they share the one model.

        Raises:
            BundleError: the graph is missing or cannot be loaded.
        """
        processor = load_processor(bundle.processor_dir)
        model = _open(bundle, processor, num_threads=num_threads, spinning=spinning)
        found: dict[str, Self] = {}
        for name in bundle.manifest.tasks:
            found[name] = cls.__new__(cls)
            found[name]._take(bundle, name, processor, model)
        return found

    def _take(self, bundle: Bundle, name: str, processor: Processor, model: _Model) -> None:
        self.bundle = bundle
        self.name = name
        self.task: Task = bundle.manifest.tasks[name]
        self.processor = processor
        self.model = model
        self.runner: Runner = model
        if uses_heads(bundle.manifest.tasks):
            self.runner = HeadRunner(model, name)

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """One example or rejection per row."""
        return self.task.encode(rows, self.processor)

    def run(self, examples: Sequence[Example], *, pad_to: int | None = None) -> list[BaseModel]:
        """One response per example, from one batch; ``pad_to`` widens it to that many tokens.

        Widths in steps let ONNX Runtime, whose memory never shrinks, reuse its buffers.
        """
        if not examples:
            return []
        batch = self.task.collate(examples, self.processor)
        if pad_to is not None:
            batch = {name: self._widen(name, array, pad_to) for name, array in batch.items()}
        outputs = self.task.predict(self.runner, batch)
        return self.task.decode(outputs, examples, self.processor)

    def run_all(
        self, examples: Sequence[Example], predictors: Mapping[str, "Predictor"]
    ) -> list[dict[str, BaseModel]]:
        """What every one of ``predictors``, heads of this model, answers, in one forward pass.

        They must read the same input: their tasks encode a row alike.
        """
        if not examples:
            return []
        batch = self.task.collate(examples, self.processor)
        outputs = self.model({name: batch[name] for name in ("input_ids", "attention_mask")})
        answers = {}
        for name, other in predictors.items():
            runner = HeadRunner(lambda _: outputs, name)
            decoded = other.task.decode(
                other.task.predict(runner, other.task.collate(examples, self.processor)),
                examples,
                self.processor,
            )
            answers[name] = decoded
        return [{name: answers[name][row] for name in answers} for row in range(len(examples))]

    def predict(
        self, rows: Sequence[Row], *, max_batch_tokens: int = 4096
    ) -> list[BaseModel | Rejected]:
        """One response or rejection per row, in the order of ``rows``."""
        encoded = self.encode(rows)
        places = [place for place, item in enumerate(encoded) if isinstance(item, Example)]
        examples = [item for item in encoded if isinstance(item, Example)]
        answers: list[BaseModel | Rejected | None] = [
            item if isinstance(item, Rejected) else None for item in encoded
        ]
        lengths = [example.length for example in examples]
        for group in plan_batches(lengths, max_batch_tokens=max_batch_tokens):
            responses = self.run([examples[index] for index in group])
            for index, response in zip(group, responses, strict=True):
                answers[places[index]] = response
        return [answer for answer in answers if answer is not None]

    def release(self) -> None:
        """Frees the weights, where the last reference to this would not; see `TorchRunner`."""
        if isinstance(self.model, PagedRunner | TorchRunner):
            self.model.release()

    def _widen(self, name: str, array: Array, width: int) -> Array:
        missing = width - array.shape[1] if array.ndim == 2 else 0
        if missing <= 0:
            return array
        fill = {"input_ids": self.processor.pad_token_id, "labels": IGNORED}.get(name, 0)
        return np.pad(array, ((0, 0), (0, missing)), constant_values=fill)


def _open(bundle: Bundle, processor: Processor, *, num_threads: int, spinning: bool) -> _Model:
    if bundle.manifest.format == "onnx" and bundle.is_encoder_decoder:
        return Seq2SeqRunner(bundle.model_dir, num_threads=num_threads, spinning=spinning)
    if bundle.manifest.format == "onnx":
        if bundle.is_decoder and decoder_device(bundle.model_dir) == "cuda":
            return PagedRunner(bundle.model_dir)
        return OnnxRunner(bundle.model_dir, num_threads=num_threads, spinning=spinning)
    model = load_tasks(str(bundle.model_dir), bundle.manifest.tasks, processor=processor)
    return TorchRunner(model.eval(), num_threads=num_threads)
