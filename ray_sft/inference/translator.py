"""Texts through an encoder-decoder, many at a time: the likeliest translation, or a drawn one.

What is drawn for a text depends on its own seed alone, not on the texts beside it: a token is
drawn by adding noise to the scores and taking the best (Gumbel-max), and the noise is the text's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ray_sft.core import ConfigError
from ray_sft.inference.batches import plan_batches
from ray_sft.inference.seq2seq import Seq2SeqRunner
from ray_sft.models import load_model, load_processor, locate, model_config, opened_bundle
from ray_sft.tasks import Array, Batch, Example, Processor, Translation

__all__ = ["Sampling", "Translator", "Written", "check_translator"]

_CPU = torch.device("cpu")
_MAX_BATCH_TOKENS = 2048
_LONGER, _SPARE = 2, 8
"""A translation may have twice the tokens of its text and a few; a longer one has lost its way."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; at temperature 0 the likeliest one is taken."""

    temperature: float = 0.0
    top_k: int = 10
    """From how many of the likeliest."""


@dataclass(frozen=True, slots=True)
class Written:
    """A translation."""

    text: str
    num_tokens: int
    is_whole: bool
    """Whether the model ended it; else it went on until it was cut."""


def check_translator(reference: str, *, field: str) -> None:
    """Raises ConfigError where ``reference`` is no encoder-decoder; loads no weights."""
    bundle = opened_bundle(reference)
    if bundle and bundle.is_encoder_decoder:
        return
    config = model_config(locate(reference).model)
    if not getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{field}: '{reference}' is no translation model ({config.model_type}). Train one with "
            "a recipe of the task translation and give its bundle, or name an encoder-decoder."
        )


class Translator:
    """A translation model."""

    def __init__(self, model: Any, processor: Processor, task: Translation) -> None:
        """Takes ``processor`` and ``model`` as they were loaded: of transformers, or in ONNX."""
        self.model = model if isinstance(model, Seq2SeqRunner) else model.eval()
        self.processor = processor
        self.task = task

    @classmethod
    def load(cls, reference: str, *, device: torch.device = _CPU) -> Self:
        """From a bundle of the task `translation`, a folder, or a hub id.

        Raises:
            ConfigError: nothing is there, or it is no encoder-decoder.
            BundleError: the bundle is damaged.
        """
        check_translator(reference, field="model")
        bundle = opened_bundle(reference)
        tasks = bundle.manifest.tasks.values() if bundle else ()
        task = next((task for task in tasks if isinstance(task, Translation)), None)
        if bundle and task and bundle.manifest.format == "onnx":
            runner = Seq2SeqRunner(bundle.model_dir, num_threads=torch.get_num_threads())
            return cls(runner, load_processor(bundle.processor_dir), task)
        source = locate(reference)
        task = task or Translation(max_length=_positions(source.model))
        processor = load_processor(source.processor)
        model = load_model(source.model, task, processor=processor)
        transformers.logging.set_verbosity_error()
        return cls(model.to(device), processor, task)

    def translate(
        self,
        texts: Sequence[str],
        *,
        sampling: Sampling | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """Each text in the other language; empty for one that is too long or goes on for ever.

        Args:
            texts: what to translate.
            sampling: how to draw; None for the likeliest token every time.
            seeds: of each text, for drawing.
        """
        encoded = self.task.encode([{"text": text} for text in texts], self.processor)
        usable = {
            place: found
            for place, found in enumerate(encoded)
            if isinstance(found, Example) and not found.truncated
        }
        places = list(usable)
        answers = [""] * len(texts)
        lengths = [usable[place].length for place in places]
        for group in plan_batches(lengths, max_batch_tokens=_MAX_BATCH_TOKENS):
            chosen = [places[number] for number in group]
            noise = None
            if sampling is not None and sampling.temperature > 0:
                assert seeds is not None, "drawing needs seeds"
                noise = self.noise([seeds[place] for place in chosen], sampling)
            written = self.run([usable[place] for place in chosen], noise)
            for place, one in zip(chosen, written, strict=True):
                answers[place] = one.text if one.is_whole else ""
        return answers

    def noise(self, seeds: Sequence[int], sampling: Sampling) -> LogitsProcessor:
        """What makes the best token of every row of a batch a drawn one."""
        return _Noise(seeds, sampling)

    def run(
        self, examples: Sequence[Example], noise: LogitsProcessor | None = None
    ) -> list[Written]:
        """The translation of each of some texts, as far as it goes, from one batch.

        The likeliest one, or with `noise` a drawn one.
        """
        batch = self.task.collate(examples, self.processor)
        limits = [_LONGER * example.length + _SPARE for example in examples]
        found = self._generate(batch, max(limits), [] if noise is None else [noise])
        ids = [self._written(ids, limit) for ids, limit in zip(found, limits, strict=True)]
        texts = self.processor.batch_decode([one for one, _ in ids], skip_special_tokens=True)
        return [
            Written(text.strip(), len(one), is_whole)
            for text, (one, is_whole) in zip(texts, ids, strict=True)
        ]

    def _generate(
        self, batch: Batch, max_new_tokens: int, processors: Sequence[LogitsProcessor]
    ) -> Array:
        """Token ids of every text, beginning with the token that the family begins with."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if isinstance(self.model, Seq2SeqRunner):
            return self.model.generate(
                ids,
                mask,
                max_new_tokens=min(max_new_tokens, self.model.num_positions - 1),
                eos_token_id=self.processor.eos_token_id,
                processors=processors,
            )
        with torch.no_grad():
            found = self.model.generate(
                input_ids=torch.from_numpy(ids).to(self.model.device),
                attention_mask=torch.from_numpy(mask).to(self.model.device),
                generation_config=self._generation(self.model, max_new_tokens),
                logits_processor=LogitsProcessorList(processors),
            )
        written: Array = found.cpu().numpy()
        return written

    def _generation(self, model: Any, max_new_tokens: int) -> GenerationConfig:
        """One beam, whatever the model was saved with; the first token is the family's."""
        saved, limit = model.generation_config, _positions(model.config)
        return GenerationConfig(
            max_new_tokens=min(max_new_tokens, limit - 1),
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=saved.decoder_start_token_id,
            bos_token_id=saved.bos_token_id,
            eos_token_id=self.processor.eos_token_id,
            pad_token_id=self.processor.pad_token_id,
            forced_bos_token_id=saved.forced_bos_token_id,
            bad_words_ids=saved.bad_words_ids,
        )

    def _written(self, ids: Array, limit: int) -> tuple[Array, bool]:
        """The tokens before the end, without that which begins, and whether there is an end."""
        (ends,) = np.nonzero(ids[1:] == self.processor.eos_token_id)
        if not len(ends) or ends[0] > limit:
            return ids[1 : 1 + limit], False
        return ids[1 : 1 + ends[0]], True


class _Noise(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Adds to the scores of every row its own Gumbel noise, so that the best is a drawn one."""

    def __init__(self, seeds: Sequence[int], sampling: Sampling) -> None:
        self._rngs = [np.random.default_rng(seed) for seed in seeds]
        self._sampling = sampling

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores`` (batch, vocabulary) with noise at the likeliest tokens, the others out."""
        del input_ids
        top_k = min(self._sampling.top_k, scores.shape[1])
        least_B1 = scores.topk(top_k, dim=1).values[:, -1:]
        noise = np.stack([rng.gumbel(size=scores.shape[1]) for rng in self._rngs])
        noise_BV = torch.from_numpy(noise).to(scores)
        drawn = scores / self._sampling.temperature + noise_BV
        return drawn.masked_fill(scores < least_B1, -torch.inf)


def _positions(model: Any) -> int:
    """How many tokens a model takes; for a reference or a configuration."""
    config = model_config(model) if isinstance(model, str) else model
    return int(getattr(config, "max_position_embeddings", None) or 512)
