"""Where the sentences of a text are, by its marks: Latin and Chinese ones, and line ends."""

import re

__all__ = ["sentence_spans"]

_SENTENCE = re.compile(
    r"\S[^\n]*?(?:[.!?]+[\"')\u2019\u201d]*(?=\s|$)"  # not the point of 3.90
    r"|[\u3002\uff01\uff1f]+[\u2019\u201d\u300d\u300f]*|(?=\n)|$)"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Beginning and end of each sentence, without the spaces around it.

    A point ends one where a space or the text's end follows; abbreviations are taken for ends.
    """
    return [match.span() for match in _SENTENCE.finditer(text)]
