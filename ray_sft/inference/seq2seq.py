"""An encoder-decoder in ONNX, as the export pass writes it: reads once, writes token by token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
)

from ray_sft.inference.runners import open_session
from ray_sft.tasks import IGNORED, Array, Batch, Outputs

__all__ = ["DECODER", "ENCODER", "Reading", "Seq2SeqRunner", "cached_names"]

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


def cached_names(what: str, num_layers: int) -> list[str]:
    """Names of the keys and values of every layer: ``cross``, ``past`` or ``present``."""
    return [f"{what}.{layer}.{part}" for layer in range(num_layers) for part in ("key", "value")]


@dataclass(slots=True)
class Reading:
    """Texts that are being written on, and what the decoder knows of them."""

    fixed: dict[str, ort.OrtValue]
    """Of the texts: their mask, and the keys and values that do not change."""
    past: list[ort.OrtValue]
    """Keys and values of the tokens written so far, (batch, heads, tokens, size)."""


class Seq2SeqRunner:
    """Scores whole translations, as a `ray_sft.tasks.Runner`, and writes new ones."""

    def __init__(self, model_dir: Path, *, num_threads: int, spinning: bool = True) -> None:
        """Loads both graphs and what the model says of how it begins and ends.

        Raises:
            BundleError: a graph is missing, or ONNX Runtime cannot load it.
        """
        self._encoder, self._decoder = (
            open_session(model_dir, num_threads=num_threads, spinning=spinning, name=name)
            for name in (ENCODER, DECODER)
        )
        self._generation = _read(model_dir / "generation_config.json")
        config = _read(model_dir / "config.json")
        first = self._generation.get("decoder_start_token_id")
        self.start = int(config["decoder_start_token_id"] if first is None else first)
        self._fill = int(config["pad_token_id"])
        self.num_positions = int(config.get("max_position_embeddings") or 512)
        """How many tokens a text may have."""
        cross = self._encoder.get_outputs()
        self._num_layers = len(cross) // 2
        (_, self._num_heads, _, self._size) = cross[0].shape

    def __call__(self, batch: Batch) -> Outputs:
        """``logits`` (batch, target tokens, vocabulary), each given the tokens before it."""
        labels = np.asarray(batch["labels"], dtype=np.int64)
        written = np.where(labels == IGNORED, self._fill, labels)
        first = np.full((len(written), 1), self.start, dtype=np.int64)
        reading = self.read(batch["input_ids"], batch["attention_mask"])
        return {"logits": self.step(reading, np.concatenate([first, written[:, :-1]], axis=1))}

    def read(self, input_ids: Array, attention_mask: Array) -> Reading:
        """Reads texts, (batch, tokens), of which nothing is written yet."""
        mask = _value(attention_mask)
        names = cached_names("cross", self._num_layers)
        found = self._encoder.run_with_ort_values(
            names, {"input_ids": _value(input_ids), "attention_mask": mask}
        )
        nothing = np.zeros((len(input_ids), self._num_heads, 0, self._size), dtype=np.float32)
        return Reading(
            {"attention_mask": mask, **dict(zip(names, found, strict=True))},
            [ort.OrtValue.ortvalue_from_numpy(nothing) for _ in names],
        )

    def step(self, reading: Reading, ids: Array) -> Array:
        """Logits (batch, tokens, vocabulary) behind each of the next tokens, which are kept."""
        past = zip(cached_names("past", self._num_layers), reading.past, strict=True)
        logits, *reading.past = self._decoder.run_with_ort_values(
            ["logits", *cached_names("present", self._num_layers)],
            {"decoder_input_ids": _value(ids), **reading.fixed, **dict(past)},
        )
        found: Array = logits.numpy()
        return found

    def generate(
        self,
        input_ids: Array,
        attention_mask: Array,
        *,
        max_new_tokens: int,
        eos_token_id: int,
        processors: Sequence[LogitsProcessor] = (),
    ) -> Array:
        """The likeliest token after another, as transformers would write them.

        Args:
            input_ids: the texts, (batch, tokens).
            attention_mask: where they are.
            max_new_tokens: how many to write at most.
            eos_token_id: which ends a text; an id that there is not writes to the last.
            processors: change the scores of each token.

        Returns:
            (batch, at most 1 + ``max_new_tokens``): the token that begins, what was written, and
            the end, behind which there is no more of a text.
        """
        changed = LogitsProcessorList([*self._habits(eos_token_id), *processors])
        reading = self.read(input_ids, attention_mask)
        ids = np.full((len(input_ids), 1), self.start, dtype=np.int64)
        is_over = np.zeros(len(ids), dtype=np.bool_)
        for _ in range(max_new_tokens):
            scores = torch.from_numpy(self.step(reading, ids[:, -1:])[:, -1])
            best = changed(torch.from_numpy(ids), scores).argmax(dim=-1).numpy()
            best = np.where(is_over, self._fill, best)
            ids = np.concatenate([ids, best[:, None]], axis=1)
            is_over |= best == eos_token_id
            if is_over.all():
                break
        return ids

    def _habits(self, eos_token_id: int) -> list[LogitsProcessor]:
        """What the family's models always begin with, and what they never write."""
        found: list[LogitsProcessor] = []
        if bad := self._generation.get("bad_words_ids"):
            found.append(NoBadWordsLogitsProcessor(bad, eos_token_id=eos_token_id))
        if (first := self._generation.get("forced_bos_token_id")) is not None:
            found.append(ForcedBOSTokenLogitsProcessor(first))
        return found


def _value(array: Array) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array, dtype=np.int64))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
