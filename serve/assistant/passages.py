"""Documents cut into passages that an encoder can read and a citation can point at.

A passage is a stretch of its document, whole sentences where they are not too long, and knows
where it starts and ends. It ends with its paragraph once it is half full; inside a paragraph the
next one begins with the last sentence of the one before.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve.assistant.language import CJK

__all__ = ["Span", "num_words", "split_passages", "split_sentences"]

_WORD = re.compile(f"[{CJK}]|[^\\s{CJK}]+")
_CHINESE_CHARACTER = 0.6
"""Of a word: 200 Chinese characters say, and cost an encoder, about as much as 120 words."""
_LONG_WORD = 12
"""Characters; an address or a number of several times that costs as many tokens as words."""

_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE_END = re.compile(
    r"[\u3002\uff01\uff1f\uff1b\u2026]+[\u201d\u2019\u300d\u300f\uff09]*"  # Chinese, no space
    r"|[.!?]+[\"')\]\u201d\u2019]*(?=\s)"
    r"|\n(?=\s*(?:[-*\u2022]|\d+[.)\u3001]|[A-Z\u4e00-\u9fff]))"  # items of a list, headings
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|e\.g|i\.e|etc|vs|cf|approx|no|fig|dr|mr|mrs|ms|prof|st|jr|sr|inc|ltd"
    r"|u\.s|a\.m|p\.m)\.$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Span:
    """The characters from ``start`` to before ``end`` of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """What the span covers."""
        return text[self.start : self.end]


def num_words(text: str) -> float:
    """The size of a text; a Chinese character counts 0.6, and a very long word as several."""
    size = 0.0
    for word in _WORD.findall(text):
        is_chinese = len(word) == 1 and word >= "\u3400"
        size += _CHINESE_CHARACTER if is_chinese else 1 + (len(word) - 1) // _LONG_WORD
    return size


def split_sentences(text: str) -> list[Span]:
    """The sentences in order, without the space around them; together they hold all else."""
    sentences = []
    for paragraph in _between(text, _PARAGRAPH_BREAK):
        start = paragraph.start
        for end in (*_sentence_ends(text, paragraph), paragraph.end):
            sentence = _trimmed(text, Span(start, end))
            if sentence.start < sentence.end:
                sentences.append(sentence)
            start = end
    return sentences


def split_passages(text: str, *, target_words: int = 120) -> list[Span]:
    """Passages of about ``target_words``, at most 1.5 times as much, in order.

    Every character but white space lies in one of them. A text of white space has none.
    """
    passages: list[Span] = []
    for paragraph in _joined_paragraphs(text, target_words):
        passages.extend(_split_paragraph(text, paragraph, target_words))
    return passages


def _joined_paragraphs(text: str, target_words: int) -> Iterator[Span]:
    """Paragraphs, short ones together with what follows until half a passage is full."""
    start: int | None = None
    end = 0
    for paragraph in _between(text, _PARAGRAPH_BREAK):
        start = paragraph.start if start is None else start
        end = paragraph.end
        if num_words(text[start:end]) >= target_words / 2:
            yield Span(start, end)
            start = None
    if start is not None:
        yield Span(start, end)


def _split_paragraph(text: str, paragraph: Span, target_words: int) -> Iterator[Span]:
    part = paragraph.of(text)
    pieces = [
        piece for sentence in split_sentences(part) for piece in _cut(part, sentence, target_words)
    ]
    sizes = [num_words(piece.of(part)) for piece in pieces]
    first = 0
    while first < len(pieces):
        last = _last_piece(sizes, first, target_words)
        yield Span(paragraph.start + pieces[first].start, paragraph.start + pieces[last].end)
        if last + 1 == len(pieces):
            return
        first = last if _is_repeated(sizes, first, last, target_words) else last + 1


def _is_repeated(sizes: Sequence[float], first: int, last: int, target_words: int) -> bool:
    """Whether the next passage begins with this one's last piece: where that leaves it room."""
    has_room = sizes[last] <= target_words / 3 and sizes[last] + sizes[last + 1] <= target_words
    return last > first and has_room


def _last_piece(sizes: Sequence[float], first: int, target_words: int) -> int:
    """The passage that starts at ``first`` ends with this piece; a short rest is taken along."""
    size = sizes[first]
    last = first
    while last + 1 < len(sizes) and size + sizes[last + 1] <= target_words:
        last += 1
        size += sizes[last]
    rest = sum(sizes[last + 1 :])
    return (
        len(sizes) - 1 if rest <= target_words / 4 and size + rest <= 1.5 * target_words else last
    )


def _cut(text: str, sentence: Span, target_words: int) -> Iterator[Span]:
    """The sentence, or its pieces of at most ``target_words`` where it is longer."""
    start, size, end = sentence.start, 0.0, sentence.start
    for word in _WORD.finditer(text, sentence.start, sentence.end):
        for piece in _cut_word(word, target_words):
            piece_size = num_words(piece.of(text))
            if size and size + piece_size > target_words:
                yield Span(start, end)
                start, size = piece.start, 0.0
            size += piece_size
            end = piece.end
    yield Span(start, end)


def _cut_word(word: re.Match[str], target_words: int) -> Iterator[Span]:
    limit = target_words * _LONG_WORD
    for start in range(word.start(), word.end(), limit):
        yield Span(start, min(start + limit, word.end()))


def _sentence_ends(text: str, paragraph: Span) -> Iterator[int]:
    for mark in _SENTENCE_END.finditer(text, paragraph.start, paragraph.end):
        begin = max(0, mark.end() - 12)
        if not (mark.group() == "." and _ABBREVIATION.search(text, begin, mark.end())):
            yield mark.end()


def _between(text: str, breaks: re.Pattern[str]) -> Iterator[Span]:
    """What lies between the breaks, without the space around it and without empty parts."""
    start = 0
    for found in breaks.finditer(text):
        part = _trimmed(text, Span(start, found.start()))
        if part.start < part.end:
            yield part
        start = found.end()
    part = _trimmed(text, Span(start, len(text)))
    if part.start < part.end:
        yield part


def _trimmed(text: str, span: Span) -> Span:
    part = span.of(text)
    start = span.start + len(part) - len(part.lstrip())
    return Span(start, start + len(part.strip()))
