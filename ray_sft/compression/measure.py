"""Timing models as they will be used: one request alone, and requests in batches.

Models are timed in turns, so that a busy moment of the machine hits all of them; medians count.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import GenerationConfig

from ray_sft.compression.paged_workload import PagedWorkload
from ray_sft.inference import (
    PagedRunner,
    Predictor,
    Seq2SeqRunner,
    SlotDecoder,
    TorchRunner,
    torch_threads,
)
from ray_sft.tasks import Array, Batch, CausalLanguageModel, Example, Translation

__all__ = ["BATCH_SIZE", "NUM_SLOTS", "Speed", "Workload", "make_workload", "measure"]

BATCH_SIZE = 16
NUM_SLOTS = 8
_PROMPT_TOKENS = 16
_NEW_TOKENS = 24
_ROUNDS = 15
_MIN_ROUNDS = 5
_TIME_LIMIT_S = 6.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model answers."""

    p50_ms: float
    throughput: float
    unit: str


class Workload(Protocol):
    """A model with requests to time it by."""

    unit: str

    def single(self) -> list[float]:
        """Seconds a unit took, for each of some requests alone."""

    def batch(self) -> float:
        """Units a second with requests in a batch."""


class ScoringWorkload:
    """Forward passes of a task: a row is a unit."""

    unit = "rows/s"

    def __init__(self, predictor: Predictor, examples: Sequence[Example]) -> None:
        """Takes the ``examples`` around the median length."""
        self._examples = median_examples(examples, BATCH_SIZE)
        self._predictor = predictor

    def single(self) -> list[float]:
        """See `Workload.single`."""
        return [self._time([example]) for example in self._examples[::2]]

    def batch(self) -> float:
        """See `Workload.batch`."""
        return len(self._examples) / self._time(self._examples)

    def _time(self, examples: Sequence[Example]) -> float:
        start = time.perf_counter()
        self._predictor.run(examples)
        return time.perf_counter() - start


class GenerationWorkload:
    """Greedy generation of a fixed number of tokens: a token is a unit."""

    unit = "tokens/s"

    def __init__(
        self, predictor: Predictor, examples: Sequence[Example], *, num_threads: int
    ) -> None:
        """Takes the beginnings of ``examples`` as prompts, all of one length."""
        self._prompts = _prompts(examples)
        self._num_threads = num_threads
        self._module: Any = None
        if isinstance(predictor.model, TorchRunner):
            self._module = predictor.model.module
            self._pad_token_id = predictor.processor.pad_token_id
        else:
            self._decoder = SlotDecoder(
                predictor.bundle.model_dir,
                num_slots=NUM_SLOTS,
                num_threads=num_threads,
                spinning=False,
                max_length=_PROMPT_TOKENS + _NEW_TOKENS,
            )

    def single(self) -> list[float]:
        """See `Workload.single`."""
        return [self._time(self._prompts[index : index + 1]) / _NEW_TOKENS for index in range(2)]

    def batch(self) -> float:
        """See `Workload.batch`."""
        return NUM_SLOTS * _NEW_TOKENS / self._time(self._prompts)

    def _time(self, prompts: Array) -> float:
        start = time.perf_counter()
        if self._module is None:
            self._generate_onnx(prompts)
        else:
            self._generate_torch(prompts)
        return time.perf_counter() - start

    def _generate_torch(self, prompts: Array) -> None:
        ids = torch.from_numpy(prompts.astype(np.int64))
        with torch_threads(self._num_threads):
            self._module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=_NEW_TOKENS,
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self._pad_token_id,
            )

    def _generate_onnx(self, prompts: Array) -> None:
        slots = range(len(prompts))
        tokens = np.array([self._decoder.prefill(slot, prompts[slot]).argmax() for slot in slots])
        live = np.ones(len(prompts), dtype=np.bool_)
        for _ in range(_NEW_TOKENS - 1):
            tokens = self._decoder.decode(tokens, live).argmax(axis=-1)
        for slot in slots:
            self._decoder.release(slot)


class TranslationWorkload:
    """Greedy translation, a fixed number of tokens of each text: a token is a unit."""

    unit = "tokens/s"

    def __init__(
        self, predictor: Predictor, examples: Sequence[Example], *, num_threads: int
    ) -> None:
        """Takes the ``examples`` around the median length."""
        chosen = median_examples(examples, NUM_SLOTS)
        self._batches = [
            predictor.task.collate(some, predictor.processor) for some in (chosen, chosen[:1])
        ]
        self._model = predictor.model
        self._num_threads = num_threads
        self._pad_token_id = predictor.processor.pad_token_id

    def single(self) -> list[float]:
        """See `Workload.single`."""
        return [self._time(self._batches[1]) / _NEW_TOKENS for _ in range(2)]

    def batch(self) -> float:
        """See `Workload.batch`."""
        num_texts = len(self._batches[0]["input_ids"])
        return num_texts * _NEW_TOKENS / self._time(self._batches[0])

    def _time(self, batch: Batch) -> float:
        start = time.perf_counter()
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if isinstance(self._model, Seq2SeqRunner):
            self._model.generate(ids, mask, max_new_tokens=_NEW_TOKENS, eos_token_id=-1)
        else:
            assert isinstance(self._model, TorchRunner)
            model: Any = self._model.module
            with torch_threads(self._num_threads):
                model.generate(
                    torch.from_numpy(ids.astype(np.int64)),
                    attention_mask=torch.from_numpy(mask),
                    generation_config=GenerationConfig(
                        min_new_tokens=_NEW_TOKENS,
                        max_new_tokens=_NEW_TOKENS,
                        do_sample=False,
                        decoder_start_token_id=model.generation_config.decoder_start_token_id,
                        pad_token_id=self._pad_token_id,
                    ),
                )
        return time.perf_counter() - start


def median_examples(examples: Sequence[Example], count: int) -> list[Example]:
    """Up to ``count`` examples around the median length."""
    by_length = sorted(examples, key=lambda example: example.length)
    start = max(0, (len(by_length) - count) // 2)
    return by_length[start : start + count]


def _prompts(examples: Sequence[Example]) -> Array:
    """The beginnings of examples, all of one length, (slots, tokens)."""
    width = min(_PROMPT_TOKENS, *(example.length for example in examples))
    chosen = [examples[index % len(examples)] for index in range(NUM_SLOTS)]
    return np.stack([example.arrays["input_ids"][:width] for example in chosen])


def make_workload(
    predictor: Predictor, examples: Sequence[Example], *, num_threads: int
) -> Workload:
    """What a model of this task does all day."""
    assert examples
    if isinstance(predictor.model, PagedRunner):
        return PagedWorkload(
            predictor.bundle,
            _prompts(examples).tolist(),
            num_tokens=_NEW_TOKENS,
            num_threads=num_threads,
        )
    if isinstance(predictor.task, CausalLanguageModel):
        return GenerationWorkload(predictor, examples, num_threads=num_threads)
    if isinstance(predictor.task, Translation):
        return TranslationWorkload(predictor, examples, num_threads=num_threads)
    return ScoringWorkload(predictor, examples)


def measure(workloads: Sequence[Workload], *, time_limit_s: float = _TIME_LIMIT_S) -> list[Speed]:
    """The speed of each model, timed in turns after a warm-up.

    15 rounds, fewer (but at least 5) where they would take longer than ``time_limit_s``.
    """
    for workload in workloads:
        workload.single()
        workload.batch()
    singles: list[list[float]] = [[] for _ in workloads]
    batches: list[list[float]] = [[] for _ in workloads]
    end = time.perf_counter() + time_limit_s
    for number in range(_ROUNDS):
        if number >= _MIN_ROUNDS and time.perf_counter() > end:
            break
        for workload, single, batch in zip(workloads, singles, batches, strict=True):
            single.extend(workload.single())
            batch.append(workload.batch())
    return [
        Speed(float(np.median(single)) * 1e3, float(np.median(batch)), workload.unit)
        for workload, single, batch in zip(workloads, singles, batches, strict=True)
    ]
