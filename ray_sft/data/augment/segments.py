"""Text cut into words and what stands between them, so that an edit touches nothing else.

Joined again, the pieces are the text: white space and punctuation are never normalised.
"""

import re
from collections.abc import Iterable

__all__ = [
    "HAN",
    "RUNS",
    "UNTOUCHABLE",
    "has_letters",
    "is_chinese",
    "is_han",
    "is_untouchable",
    "split",
    "untouchables",
    "words_of",
]

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Chinese characters, as a range within a regular expression's brackets."""

UNTOUCHABLE = rf"(?:https?://|www\.)[!-~]+|[A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+|[@#$][^\W{HAN}]+"
"""Addresses, mentions, tags and tickers: another letter makes another thing of them."""

_OTHER = rf"[^\W{HAN}]+(?:['\u2019-][^\W{HAN}]+)*"

RUNS = re.compile(rf"({UNTOUCHABLE}|[{HAN}]+|{_OTHER})")
"""Runs of Chinese characters, and words of any other script."""

_IS_HAN = re.compile(f"[{HAN}]")
_IS_UNTOUCHABLE = re.compile(UNTOUCHABLE)
_OTHER_WORDS = re.compile(rf"[^\W\d_{HAN}]+")


def words_of(lexicon: Iterable[str]) -> re.Pattern[str]:
    """Chinese words by longest match, their other characters one by one, and words as in `RUNS`."""
    known = "".join(f"{word}|" for word in sorted(lexicon, key=lambda word: (-len(word), word)))
    return re.compile(rf"({UNTOUCHABLE}|{known}[{HAN}]|{_OTHER})")


def split(text: str, words: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The words of a text, and the gaps around them: one more, and often empty."""
    pieces = words.split(text)
    return pieces[1::2], pieces[0::2]


def is_han(text: str) -> bool:
    """Whether every character is Chinese."""
    return bool(text) and len(_IS_HAN.findall(text)) == len(text)


def is_chinese(text: str) -> bool:
    """Whether at least half of what a text is made of is Chinese: characters against words."""
    num_characters = len(_IS_HAN.findall(text))
    return num_characters > 0 and num_characters >= len(_OTHER_WORDS.findall(text))


def has_letters(text: str) -> bool:
    """Whether there is anything to say otherwise."""
    return any(character.isalpha() for character in text)


def untouchables(text: str) -> list[str]:
    """The addresses, mentions, tags and tickers of a text."""
    return _IS_UNTOUCHABLE.findall(text)


def is_untouchable(word: str) -> bool:
    """Whether a word is an address, a mention, a tag or a ticker."""
    return _IS_UNTOUCHABLE.fullmatch(word) is not None
