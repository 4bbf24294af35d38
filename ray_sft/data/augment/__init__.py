"""Changed copies of training rows: one file per operation, all under the contract in `base`.

Example:
    >>> from ray_sft.data.augment import Draws, SurfaceNoise
    >>> shout = SurfaceNoise(case_rate=1, casings=("upper",), punctuation_rate=0)
    >>> shout({"text": "Where is it?", "label": "parcel"}, Draws(0))
    {'text': 'WHERE IS IT?', 'label': 'parcel'}
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.data.augment.back_translation import BackTranslation
from ray_sft.data.augment.base import Augmentation, TextRewrites
from ray_sft.data.augment.character_noise import CharacterNoise
from ray_sft.data.augment.contextual_replacement import ContextualReplacement
from ray_sft.data.augment.copies import Copy, copies_of
from ray_sft.data.augment.cutoff import Cutoff
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.eda import Eda
from ray_sft.data.augment.gate import Gate
from ray_sft.data.augment.paraphrase import Paraphrase
from ray_sft.data.augment.surface_noise import SurfaceNoise
from ray_sft.data.augment.template_filling import TemplateFilling
from ray_sft.data.augment.word_edits import WordEdits

__all__ = [
    "AnyAugmentation",
    "Augmentation",
    "BackTranslation",
    "CharacterNoise",
    "ContextualReplacement",
    "Copy",
    "Cutoff",
    "Draws",
    "Eda",
    "Gate",
    "Paraphrase",
    "SurfaceNoise",
    "TemplateFilling",
    "TextRewrites",
    "WordEdits",
    "copies_of",
]

AnyAugmentation: TypeAlias = Annotated[
    BackTranslation
    | CharacterNoise
    | ContextualReplacement
    | Cutoff
    | Eda
    | Paraphrase
    | SurfaceNoise
    | TemplateFilling,
    Field(discriminator="kind"),
]
"""Every augmentation that a recipe may name, by its ``kind``."""
