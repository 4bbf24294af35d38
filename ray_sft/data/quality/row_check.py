"""What can be said and done about a row by looking at it alone."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any

import ftfy

from ray_sft.data.quality.config import Quality
from ray_sft.data.quality.names import NameMasker
from ray_sft.data.quality.personal_data import Masker
from ray_sft.data.texts import map_texts, texts_of
from ray_sft.tasks import Rejected, Row

__all__ = ["RowCheck", "language_of"]

_FULL_WIDTH = {
    code: code - 0xFEE0
    for first, last in ((0xFF10, 0xFF19), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A))
    for code in range(first, last + 1)
}
"""Letters and digits alone: full-width punctuation is how Chinese is written."""
_REPAIRS = ftfy.TextFixerConfig(fix_character_width=False, uncurl_quotes=False, explain=False)
_LONGEST_LOOK = 2000
"""Characters of a row by which its language is told."""


class RowCheck:
    """Repairs and masks the texts of rows, and rejects those that the recipe does not want."""

    def __init__(self, quality: Quality) -> None:
        """What ``quality`` asks for."""
        self.quality = quality
        self._mask_names = NameMasker(quality.names, quality.name_labels) if quality.names else None
        self._looks = bool(quality.min_chars or quality.max_chars or quality.languages)
        self._edits: list[Callable[[str], str]] = []
        if quality.repair:
            self._edits.append(self.repaired)
        if quality.mask:
            self._edits.append(Masker(quality.mask, quality.phone_regions))

    def __call__(self, row: Row) -> dict[str, Any] | Rejected:
        """The row as it is used, or why it is not; see `check_rows`."""
        return self.check_rows([row])[0]

    def check_rows(self, rows: Sequence[Row]) -> list[dict[str, Any] | Rejected]:
        """Each row as it is used, or why it is not, whatever stands beside it."""
        changed = [self._edited(row) for row in rows]
        if self._mask_names:
            changed = self._mask_names(changed)
        if not self._looks:
            return list(changed)
        return [self._rejected(texts_of(row)) or row for row in changed]

    def _edited(self, row: Row) -> dict[str, Any]:
        changed = dict(row)
        for edit in self._edits:
            changed = map_texts(changed, edit)
        return changed

    def repaired(self, text: str) -> str:
        """``text`` without what storage did to it; see `Quality.repair`."""
        # plain ASCII can be damaged by nothing but control characters and HTML entities
        if text.isascii() and text.isprintable() and "&" not in text:
            return text
        return ftfy.fix_text(text, _REPAIRS).translate(_FULL_WIDTH)

    def _rejected(self, text: str) -> Rejected | None:
        quality = self.quality
        if len(text) < quality.min_chars:
            return Rejected(f"shorter than {quality.min_chars} characters")
        if quality.max_chars and len(text) > quality.max_chars:
            return Rejected(f"longer than {quality.max_chars} characters")
        if quality.languages:
            language, certainty = language_of(text)
            if language not in quality.languages and certainty >= quality.language_certainty:
                return Rejected(f"in another language ({language})")
        return None


def language_of(text: str) -> tuple[str, float]:
    """The language of a text (ISO 639-1) and how sure that is, between 0 and 1.

    The naive Bayes model of langid.py over byte n-grams (Lui & Baldwin 2012), which knows 97
    languages; a few words are often not enough for it.
    """
    language, certainty = _identifier().classify(text[:_LONGEST_LOOK])
    return str(language), float(certainty)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second with its model

    path = resources.files("py3langid") / MODEL_FILE
    return LanguageIdentifier.from_modelpath(str(path), norm_probs=True)
