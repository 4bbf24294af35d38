"""Passages are stretches of their document, and lose nothing of it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.assistant.passages import num_words, split_passages, split_sentences

TARGET = 20
WORDS = st.sampled_from(["one", "two", "Three", "e.g.", "x" * 70, "订单查询物流", "3.14", "“好”"])
ENDS = st.sampled_from([" ", ". ", "! ", "?\n", "。", "！”", "\n\n", "\n- ", "\n \n", ";"])
TEXTS = st.lists(st.tuples(WORDS, ENDS), max_size=120).map(
    lambda pairs: "".join(word + end for word, end in pairs)
)


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_every_character_lies_in_a_passage_and_passages_are_short(text: str) -> None:
    spans = split_passages(text, target_words=TARGET)
    covered = set()
    for span in spans:
        part = span.of(text)
        assert part == part.strip()
        assert part
        assert num_words(part) <= 1.5 * TARGET
        covered.update(range(span.start, span.end))
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)
    assert [span.start for span in spans] == sorted({span.start for span in spans})
    assert [span.end for span in spans] == sorted({span.end for span in spans})


@settings(deadline=None)
@given(TEXTS)
def test_sentences_follow_each_other_and_hold_everything(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(span.of(text).split()) for span in sentences) == "".join(text.split())
    assert all(one.end <= two.start for one, two in pairwise(sentences))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        (
            "Ask Dr. Who at 3.30 p.m. today. Then go.",
            ["Ask Dr. Who at 3.30 p.m. today.", "Then go."],
        ),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        (
            "可以退货。怎么退？请“联系客服。”谢谢！",
            ["可以退货。", "怎么退？", "请“联系客服。”", "谢谢！"],
        ),
        ("Bring:\n- the label\n- the box\nand go", ["Bring:", "- the label", "- the box\nand go"]),
        ("A line that is\nwrapped. Next.", ["A line that is\nwrapped.", "Next."]),
        ("no mark at all", ["no mark at all"]),
        (" \n\n ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [span.of(text) for span in split_sentences(text)] == sentences


def test_a_passage_begins_with_the_last_sentence_of_the_one_before() -> None:
    text = " ".join(f"This is the sentence with number {number}." for number in range(12))
    passages = [span.of(text) for span in split_passages(text, target_words=28)]
    assert len(passages) > 2
    for one, two in pairwise(passages):
        last = one[one.rindex("This") :]
        assert two.startswith(last)


def test_a_sentence_is_not_repeated_as_a_passage_of_its_own() -> None:
    text = "one two three four five. six seven eight nine ten. " + "word " * 17 + "end."
    passages = [span.of(text) for span in split_passages(text, target_words=20)]
    assert passages == [text[: text.index(" word")], text[text.index("word") :]]


def test_a_passage_ends_with_its_paragraph_once_it_is_half_full() -> None:
    paragraphs = ["word " * 18, "short one.", "other " * 14]
    text = "\n\n".join(part.strip() for part in paragraphs)
    first, second = split_passages(text, target_words=30)
    assert first.of(text) == ("word " * 18).strip()
    assert second.of(text).startswith("short one.\n\nother")


def test_a_chinese_character_counts_six_tenths_of_a_word() -> None:
    assert num_words("two words") == 2
    assert num_words("订单查询物") == pytest.approx(3.0)
    assert num_words("a" * 25) == 3
