"""A bundle that answers: rows in, the task's responses out.

The same calls as in training and evaluation (``task.encode``, ``collate``, ``predict``,
``decode``), so what was measured is what is served. Text generation is in `generation`.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from ray_sft.bundle import Bundle
from ray_sft.inference.batches import plan_batches
from ray_sft.inference.runners import OnnxRunner, TorchRunner
from ray_sft.models import load_model, load_processor
from ray_sft.tasks import IGNORED, Array, Encoded, Example, Rejected, Row, Runner

__all__ = ["Predictor"]


class Predictor:
    """The model, processor and task of a bundle, ready to run on the CPU."""

    def __init__(self, bundle: Bundle, *, num_threads: int = 1, spinning: bool = True) -> None:
        """Loads ``bundle``; ``spinning`` is False where several predictors share a machine.

        Raises:
            BundleError: the graph is missing or cannot be loaded.
        """
        self.bundle = bundle
        self.task = bundle.task
        self.processor = load_processor(bundle.processor_dir)
        self.runner: Runner
        if bundle.manifest.format == "onnx":
            self.runner = OnnxRunner(bundle.model_dir, num_threads=num_threads, spinning=spinning)
        else:
            model = load_model(str(bundle.model_dir), self.task, processor=self.processor)
            self.runner = TorchRunner(model.eval(), num_threads=num_threads)

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

    def _widen(self, name: str, array: Array, width: int) -> Array:
        missing = width - array.shape[1] if array.ndim == 2 else 0
        if missing <= 0:
            return array
        fill = {"input_ids": self.processor.pad_token_id, "labels": IGNORED}.get(name, 0)
        return np.pad(array, ((0, 0), (0, missing)), constant_values=fill)
