"""Texts said anew by way of another language."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.core.sentences import sentence_spans
from ray_sft.data.augment.base import TextRewrites
from ray_sft.data.augment.device import device_of_task
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import has_letters, untouchables
from ray_sft.data.references import ModelReference, weights_of
from ray_sft.inference.translator import Sampling, Translator, check_translator

__all__ = ["BackTranslation"]

_SEED_BITS = 62


class BackTranslation(TextRewrites):
    """Sentences that are translated into another language and back.

    Sennrich et al. 2016, arXiv:1511.06709, for the way back; with drawn instead of likeliest words
    as a paraphrase of labelled text in Xie et al. 2020, arXiv:1904.12848, section 2.2. Each
    sentence goes by itself; one that holds an address, a mention or a ticker stays, and so does
    one that the models fail on.
    """

    uses_gpu: ClassVar[bool] = True

    kind: Literal["back_translation"] = "back_translation"
    there: ModelReference = Field(min_length=1)
    """A model from the language of the texts into another: a bundle of the task translation, such
    as ``runs/en_zh/bundles/trained``, or a folder or hub id with an encoder-decoder."""
    back: ModelReference = Field(min_length=1)
    """The model of the way back."""
    temperature: float = Field(default=0.7, ge=0, le=5)
    """How freely words are drawn; at 0 all copies of a text are the same."""
    top_k: int = Field(default=10, ge=1, le=1000)
    """From how many of the likeliest words."""

    def check(self) -> None:
        """See `Augmentation.check`."""
        check_translator(self.there, field="augment: back_translation.there")
        check_translator(self.back, field="augment: back_translation.back")

    def fingerprint(self) -> str:
        """See `Augmentation.fingerprint`; follows the weights of bundles."""
        said = super().fingerprint() + weights_of(self.there, self.back)
        return hashlib.sha256(said.encode()).hexdigest()

    def rewrite(self, texts: Sequence[str], rngs: Sequence[Draws]) -> list[str]:
        """See `TextRewrites.rewrite`."""
        pieces = [
            (number, (start, end))
            for number, text in enumerate(texts)
            for start, end in sentence_spans(text)
            if _can_be_said_anew(text[start:end])
        ]
        sentences = [texts[number][start:end] for number, (start, end) in pieces]
        seeds = [[rngs[number].below(1 << _SEED_BITS) for _ in range(2)] for number, _ in pieces]
        sampling = Sampling(self.temperature, self.top_k)
        pivots = _load(self.there).translate(
            sentences, sampling=sampling, seeds=[first for first, _ in seeds]
        )
        found = _load(self.back).translate(
            pivots, sampling=sampling, seeds=[second for _, second in seeds]
        )
        said = list(texts)
        for (number, (start, end)), sentence in reversed(list(zip(pieces, found, strict=True))):
            if has_letters(sentence):
                said[number] = said[number][:start] + sentence + said[number][end:]
        return said


def _can_be_said_anew(sentence: str) -> bool:
    return has_letters(sentence) and not untouchables(sentence)


@lru_cache(maxsize=2)
def _load(reference: str) -> Translator:
    return Translator.load(reference, device=device_of_task())
