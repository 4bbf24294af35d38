"""Words exchanged for others that a masked language model finds likely in their place."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from ray_sft.core import ConfigError
from ray_sft.data.augment.device import device_of_task
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import is_han, is_untouchable, words_of
from ray_sft.data.augment.word_edits import Edits, Passage, WordEdits
from ray_sft.data.references import ModelReference, weights_of
from ray_sft.inference import plan_batches
from ray_sft.models import check_model, load_model, load_processor, locate, model_config
from ray_sft.tasks import Array, MaskedLanguageModel, Processor, Row

__all__ = ["ContextualReplacement"]

_MAX_BATCH_TOKENS = 4096
_LONGEST = 512
"""Tokens of a text that the model sees, at most; words behind them stay."""
_SPARE_POSITIONS = 2
"""Positions that models of RoBERTa's family give to padding."""
_SPELLINGS = 4
"""Casings of a word itself among the likeliest, which are passed over."""
_WORD_STARTS = ("\u0120", "\u2581")
"""How byte-level and SentencePiece tokenizers mark a token that begins a word."""


class ContextualReplacement(WordEdits):
    """Words that fit their sentence, whatever its label.

    Kobayashi 2018, arXiv:1805.06201, section 2.1, without the condition on the label. Words
    of letters are hidden from a masked language model, all of a text's at once, and each becomes
    a word drawn from the ``top_k`` likeliest by their probabilities, never itself. In Chinese,
    characters count as words. A word keeps its casing. Words of entities stay.
    """

    kind: Literal["contextual_replacement"] = "contextual_replacement"
    model: ModelReference = Field(min_length=1)
    """A bundle of the task masked_language_model, such as ``runs/NAME/bundles/STAGE``, or a folder
    or hub id with such a model."""
    rate: float = Field(default=0.15, ge=0, le=1)
    """Share of the words that are exchanged, one at least; 0 for none."""
    top_k: int = Field(default=20, ge=1, le=1000)
    """How many likely words there are to draw from."""

    uses_gpu: ClassVar[bool] = True
    words: ClassVar[re.Pattern[str]] = words_of(())

    def check(self) -> None:
        """See `Augmentation.check`."""
        source = locate(self.model)
        check_model(source)
        names = model_config(source.model).architectures or ()
        if not any(name.endswith("ForMaskedLM") for name in names):
            raise ConfigError(
                f"augment: contextual_replacement needs a masked language model, and "
                f"'{self.model}' is {' or '.join(names) or 'a model without a head'}. Train one on "
                "your text with a stage of the task masked_language_model, and give its bundle."
            )

    def fingerprint(self) -> str:
        """See `Augmentation.fingerprint`; follows the weights of a bundle."""
        said = super().fingerprint() + weights_of(self.model)
        return hashlib.sha256(said.encode()).hexdigest()

    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """See `WordEdits.edit_words`."""
        return self._edit_passages([Passage(words, protected)], [rng])[0]

    def change_rows(self, rows: Sequence[Row], rngs: Sequence[Draws]) -> list[dict[str, Any]]:
        """See `Augmentation.change_rows`; the model reads the texts of all rows together."""
        passages: list[Passage] = []
        owners: list[Draws] = []

        def collect(passage: Passage, rng: Draws) -> Edits:
            passages.append(passage)
            owners.append(rng)
            return {}

        def change(row: Row, edit: Callable[[Passage], Edits]) -> dict[str, Any]:
            return self.change_row(row, partial(self.edit_text, edit=edit), edit)

        for row, rng in zip(rows, rngs, strict=True):
            change(row, partial(collect, rng=rng))
        edited = iter(self._edit_passages(passages, owners))
        return [change(row, lambda _: next(edited)) for row in rows]

    def _edit_passages(self, passages: Sequence[Passage], rngs: Sequence[Draws]) -> Sequence[Edits]:
        edits: list[dict[int, list[str]]] = [{} for _ in passages]
        if not self.rate:
            return edits
        model = _load(self.model)
        chosen = [
            self._choose(passage, rng) if model.mask not in passage.text else []
            for passage, rng in zip(passages, rngs, strict=True)
        ]
        hidden = [number for number, places in enumerate(chosen) if places]
        texts = [_hide(passages[number], chosen[number], model.mask) for number in hidden]
        for number, logits_NV in zip(hidden, model.guess(texts), strict=True):
            words = passages[number].words
            # a word behind the longest text that the model takes has no row, and stays
            for place, logits_V in zip(chosen[number], logits_NV, strict=False):
                word = model.draw(words[place], logits_V, self.top_k, rngs[number])
                edits[number][place] = [word]
        return edits

    def _choose(self, passage: Passage, rng: Draws) -> list[int]:
        """Which words of a passage are exchanged, in order."""
        free = [
            index
            for index, word in enumerate(passage.words)
            if word.isalpha() and not passage.protected[index] and not is_untouchable(word)
        ]
        count = max(1, round(self.rate * len(passage.words)))
        return sorted(free[place] for place in islice(rng.order(len(free)), count))


def _hide(passage: Passage, places: Iterable[int], mask: str) -> str:
    words = list(passage.words)
    for place in places:
        words[place] = mask
    return passage.with_words(words)


@dataclass(frozen=True, slots=True)
class _MaskedModel:
    """A masked language model and the words that single tokens of it spell."""

    module: torch.nn.Module
    processor: Processor
    words: tuple[str, ...]
    """What each token spells, empty for one that is no word of its own, (vocabulary,)."""
    is_word: Array
    """Which tokens are words of letters, (vocabulary,)."""
    is_character: Array
    """Which tokens are Chinese characters, (vocabulary,)."""
    max_length: int
    """The longest text in tokens."""

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def mask(self) -> str:
        return str(self.processor.mask_token)

    def guess(self, texts: Sequence[str]) -> list[Array]:
        """Of each text, the scores at its masks, (masks, vocabulary)."""
        if not texts:
            return []
        encoded = self.processor(list(texts), truncation=True, max_length=self.max_length)[
            "input_ids"
        ]
        guesses: list[Array] = [np.empty(0)] * len(texts)
        lengths = [len(ids) for ids in encoded]
        for group in plan_batches(lengths, max_batch_tokens=_MAX_BATCH_TOKENS):
            batch = self.processor.pad(
                {"input_ids": [encoded[number] for number in group]}, return_tensors="pt"
            )
            with torch.no_grad():
                logits_BTV = self.module(
                    input_ids=batch["input_ids"].to(self.device),
                    attention_mask=batch["attention_mask"].to(self.device),
                ).logits
            is_mask_BT = batch["input_ids"].to(self.device) == self.processor.mask_token_id
            for row, number in enumerate(group):
                guesses[number] = logits_BTV[row, is_mask_BT[row]].cpu().numpy()
        return guesses

    def draw(self, word: str, logits_V: Array, top_k: int, rng: Draws) -> str:
        """A likely word of the same script in place of ``word``; itself where there is none."""
        # one draw a token, not one a rank: ranks of near ties depend on rounding (Gumbel-max)
        noise_V = rng.generator().gumbel(size=len(self.words))
        fits_V = (self.is_character if is_han(word) else self.is_word).copy()
        top = np.argsort(-np.where(fits_V, logits_V[: len(fits_V)], -np.inf), kind="stable")
        likely = [
            token
            for token in top[: top_k + _SPELLINGS].tolist()
            if fits_V[token] and self.words[token].casefold() != word.casefold()
        ][:top_k]
        if not likely:
            return word
        best = max(likely, key=lambda token: float(logits_V[token] + noise_V[token]))
        return _in_casing_of(word, self.words[best])


@lru_cache(maxsize=2)
def _load(reference: str) -> _MaskedModel:
    source = locate(reference)
    processor = load_processor(source.processor)
    module = load_model(source.model, MaskedLanguageModel(max_length=8), processor=processor)
    tokens = processor.convert_ids_to_tokens(list(range(len(processor))))
    spelled = [processor.decode([number]).strip() for number in range(len(processor))]
    marks_starts = any(token.startswith(_WORD_STARTS) for token in tokens)
    special = set(processor.all_special_tokens)
    words = tuple(
        text if _is_whole(token, text, marks_starts) and token not in special else ""
        for token, text in zip(tokens, spelled, strict=True)
    )
    is_character = np.asarray([len(word) == 1 and is_han(word) for word in words])
    is_word = np.asarray([word.isalpha() and not is_han(word) for word in words])
    positions = getattr(module.config, "max_position_embeddings", _LONGEST)
    max_length = min(positions, _LONGEST) - _SPARE_POSITIONS
    module = module.to(device_of_task()).eval()
    return _MaskedModel(module, processor, words, is_word, is_character, max_length)


def _is_whole(token: str, text: str, marks_starts: bool) -> bool:
    """Whether a token begins a word, and spells nothing but letters."""
    if marks_starts:
        return text.isalpha() and (token.startswith(_WORD_STARTS) or is_han(text))
    return text.isalpha() and not token.startswith("##")


def _in_casing_of(word: str, other: str) -> str:
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other
