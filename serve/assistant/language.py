"""Two languages: which one a text is in, which characters it may hold, and its search terms."""

import re
import unicodedata
from typing import Literal, TypeAlias

__all__ = [
    "CJK",
    "FULL_TEXT",
    "LANGUAGES",
    "Language",
    "clean",
    "detect_language",
    "search_text",
    "terms",
]

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

FULL_TEXT = {
    "base_tokenizer": "simple",
    "language": "English",
    "lower_case": True,
    "stem": True,
    "remove_stop_words": True,
    "ascii_folding": True,
}
"""How LanceDB cuts a `search_text`: at spaces and punctuation, English words to their stems."""

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Chinese characters, as the inside of a regular expression's brackets."""
_CJK_CHARACTER = re.compile(f"[{CJK}]")
_CJK_RUN = re.compile(f"[{CJK}]+")
_LATIN_WORD = re.compile(r"[A-Za-z]+")
_CHINESE_SHARE = 0.3
"""A Chinese question may name an English product; an English one rarely quotes Chinese."""

_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, and those that reorder or hide text: bidirectional marks, tags, halves of
surrogate pairs. What joins emoji (U+200D) stays."""


def clean(text: str) -> str:
    """``text`` without characters that a reader cannot see; line breaks become newlines."""
    return _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text)).strip()


def detect_language(text: str) -> Language:
    """``zh`` where Chinese characters are at least 0.3 of all Chinese characters and Latin words.

    Everything else is ``en``, the empty text included.
    """
    num_chinese = len(_CJK_CHARACTER.findall(text))
    num_words = len(_LATIN_WORD.findall(text))
    share = num_chinese / max(1, num_chinese + num_words)
    return "zh" if share >= _CHINESE_SHARE else "en"


def search_text(text: str) -> str:
    """What full-text search reads instead of ``text``.

    Chinese has no spaces: each run of its characters becomes its overlapping pairs, as in
    Lucene's CJKAnalyzer, so that no dictionary has to agree on both sides. A character that
    stands alone is a term of its own. Full-width forms become the usual ones.
    """
    return _CJK_RUN.sub(_pairs, unicodedata.normalize("NFKC", text))


def terms(text: str) -> frozenset[str]:
    """The terms of ``text`` as full-text search counts them: no stop words, stems only."""
    import lancedb  # here, since the arguments of a service name the languages above

    return frozenset(token.text for token in lancedb.tokenize(search_text(text), **FULL_TEXT))


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[start : start + 2] for start in range(len(characters) - 1)]
    return f" {' '.join(pairs or [characters])} "
