"""Words of a row, and how a tokenizer is given words.

A file for tagging comes as lists of words, a service gets text. This file holds the rule by which
text becomes words, the one spelling of words that tokenizers see, from either, and the way back
from tokens to words. Nothing here knows tags.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, pre_tokenizers

from ray_sft.tasks.base import Rejected, Row

__all__ = ["AlignedWords", "Sentence", "align", "read_sentence", "spelled", "split_words"]

# a mark (an accent, a vowel sign, an emoji's variation) belongs to what it stands on
_WORD = r"\p{Han}\p{M}*|[\p{L}\p{M}\p{N}_&&[^\p{Han}]]+|\S\p{M}*"
_SPLITTER = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
# Chinese and Japanese characters with their punctuation; Korean is written with spaces
_UNSPACED = re.compile("[\u3000-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """The words of a row, and the characters where each begins and ends."""

    words: list[str]
    starts: list[int]
    ends: list[int]


def read_sentence(row: Row) -> Sentence | Rejected:
    """The ``tokens`` of a row, or the words of its ``text``.

    Characters of tokens are those of ``" ".join(tokens)``.
    """
    tokens, text = row.get("tokens"), row.get("text")
    if tokens is None:
        if not isinstance(text, str) or not text.strip():
            return Rejected("text is missing or empty")
        found = split_words(text)
        return Sentence([w for w, _, _ in found], [s for _, s, _ in found], [e for *_, e in found])
    if not isinstance(tokens, list | tuple) or not all(isinstance(word, str) for word in tokens):
        return Rejected("tokens is not a list of words")
    if not tokens:
        return Rejected("tokens is empty")
    lengths = np.asarray([len(word) for word in tokens])
    ends = np.cumsum(lengths) + np.arange(len(tokens))
    return Sentence(list(tokens), (ends - lengths).tolist(), ends.tolist())


def split_words(text: str) -> list[tuple[str, int, int]]:
    """The words of ``text`` with the characters where they begin and end.

    A word is a Chinese character, or a run of letters, digits and underscores of any other script,
    or one character of anything else that is not white space: the rule of BERT's tokenizers, which
    is also how BC5CDR was made. Scripts without spaces between words, Thai say, are not cut.
    Files that are cut otherwise ("don't" as one word) are learned as they are, and then the words
    of a service are a little finer than those of training.
    """
    return [(word, start, end) for word, (start, end) in _SPLITTER.pre_tokenize_str(text)]


def spelled(words: Sequence[str]) -> list[str]:
    """``words`` as tokenizers get them: as inside a sentence, each after a space.

    Byte-level tokenizers without ``add_prefix_space`` would glue the words together otherwise;
    for all others the space changes nothing. Chinese and Japanese words are written without.
    """
    return [word if _UNSPACED.match(word) else f" {word}" for word in words]


@dataclass(frozen=True, slots=True)
class AlignedWords:
    """A tokenized list of words, cut to a length."""

    input_ids: list[int]
    """Special tokens as the tokenizer adds them."""
    starts: list[int]
    """Where the first sub-word of each word stands in ``input_ids``."""
    kept: list[int]
    """Which word that is; words that the tokenizer makes nothing of, or cut off, are not there."""
    truncated: int
    """How many tokens were cut off."""


def align(ids: Sequence[int], word_ids: Sequence[int | None], *, max_length: int) -> AlignedWords:
    """Finds the words in a tokenizer's ``ids``, and cuts after the last word that fits.

    ``word_ids`` names the word of each token, None for special tokens. No word may be left: then
    the first alone does not fit, or there is none.
    """
    starts: list[int] = []
    kept: list[int] = []
    for position, word in enumerate(word_ids):
        if word is not None and (not kept or word != kept[-1]):
            starts.append(position)
            kept.append(word)
    if len(ids) <= max_length or not kept:
        return AlignedWords(list(ids), starts, kept, truncated=0)
    closing = next(n for n, word in enumerate(reversed(word_ids)) if word is not None)
    end_of_words = len(ids) - closing
    ends = [*starts[1:], end_of_words]
    num_kept = sum(end + closing <= max_length for end in ends)
    cut = ends[num_kept - 1] if num_kept else starts[0]
    return AlignedWords(
        [*ids[:cut], *ids[end_of_words:]],
        starts[:num_kept],
        kept[:num_kept],
        truncated=end_of_words - cut,
    )
