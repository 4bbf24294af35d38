"""Text cut into words and what stands between them, so that an edit touches nothing else.

Joined again, the pieces are the text: white space and punctuation are never normalised.
"""

import re
from collections.abc import Iterable, Set

__all__ = [
    "HAN",
    "RUNS",
    "UNTOUCHABLE",
    "has_letters",
    "is_chinese",
    "is_han",
    "is_untouchable",
    "pieces_of",
    "untouchable_places",
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

_ASCII_WORDS = re.compile(r"(\w+(?:['-]\w+)*)", re.ASCII)
"""The same in ASCII without anything untouchable, at half the time."""

_MARKS = ("@", "#", "$", "://", "www.")
"""One of them is in everything untouchable."""

_IS_HAN = re.compile(f"[{HAN}]")
_IS_UNTOUCHABLE = re.compile(UNTOUCHABLE)
_OTHER_WORDS = re.compile(rf"[^\W\d_{HAN}]+")


def words_of(lexicon: Iterable[str]) -> re.Pattern[str]:
    """Chinese words by longest match, their other characters one by one, and words as in `RUNS`."""
    known = "".join(f"{word}|" for word in sorted(lexicon, key=lambda word: (-len(word), word)))
    return re.compile(rf"({UNTOUCHABLE}|{known}[{HAN}]|{_OTHER})")


def pieces_of(text: str, words: re.Pattern[str]) -> list[str]:
    """What stands before, between and behind the words of a text, and in turn the words."""
    if text.isascii():  # nothing in it is Chinese, whatever the words of that are
        words = RUNS if _may_be_untouchable(text) else _ASCII_WORDS
    return words.split(text)


def is_han(text: str) -> bool:
    """Whether every character is Chinese."""
    return bool(text) and len(_IS_HAN.findall(text)) == len(text)


def is_chinese(text: str) -> bool:
    """Whether at least half of what a text is made of is Chinese: characters against words."""
    num_characters = 0 if text.isascii() else len(_IS_HAN.findall(text))
    return num_characters > 0 and num_characters >= len(_OTHER_WORDS.findall(text))


def has_letters(text: str) -> bool:
    """Whether there is anything to say otherwise."""
    return any(character.isalpha() for character in text)


def untouchables(text: str) -> list[str]:
    """The addresses, mentions, tags and tickers of a text."""
    return _IS_UNTOUCHABLE.findall(text)


def untouchable_places(text: str) -> Set[int]:
    """Which characters of a text are part of an address, a mention, a tag or a ticker."""
    if not _may_be_untouchable(text):
        return frozenset()
    spans = (match.span() for match in _IS_UNTOUCHABLE.finditer(text))
    return {place for start, end in spans for place in range(start, end)}


def _may_be_untouchable(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def is_untouchable(word: str) -> bool:
    """Whether a word is an address, a mention, a tag or a ticker."""
    return not word.isalnum() and _IS_UNTOUCHABLE.fullmatch(word) is not None
