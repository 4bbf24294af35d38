import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_sft.tasks import Rejected
from ray_sft.tasks.words import align, read_sentence, spelled, split_words
from tests.factories import tiny_processor


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Parkinson's disease, 3.5mg", ["Parkinson", "'", "s", "disease", ",", "3", ".", "5mg"]),
        ("iPhone手机 很好！", ["iPhone", "手", "机", "很", "好", "！"]),
        ("東京タワーに行く", ["東", "京", "タワーに", "行", "く"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("cafe\u0301 na\u00efve snake_case", ["cafe\u0301", "na\u00efve", "snake_case"]),
        ("ok❤️\U0001f600\u200bgo", ["ok", "❤️", "\U0001f600", "\u200b", "go"]),
        (" a\u00a0b\u3000c\r\n\t", ["a", "b", "c"]),
        (" \n", []),
    ],
)
def test_words_of_a_text(text, words):
    assert [word for word, _, _ in split_words(text)] == words


@given(st.text())
def test_words_are_the_text_without_its_white_space(text):
    found = split_words(text)
    end_before = 0
    for word, start, end in found:
        assert word == text[start:end]
        assert not word.isspace() or word in "\x1c\x1d\x1e\x1f"  # separators to Python alone
        assert not text[end_before:start].strip()
        end_before = end
    assert not text[end_before:].strip()


def test_characters_of_tokens_are_those_of_the_tokens_joined():
    tokens = ["Don't", "", "pay", "人民币", "\U0001f600", "!"]
    sentence = read_sentence({"tokens": tokens, "text": "is not looked at"})
    joined = " ".join(tokens)
    assert [joined[s:e] for s, e in zip(sentence.starts, sentence.ends, strict=True)] == tokens


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "text is missing or empty"),
        ({"text": " \n"}, "text is missing or empty"),
        ({"text": 7}, "text is missing or empty"),
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": "two words"}, "tokens is not a list of words"),
        ({"tokens": ["one", 2]}, "tokens is not a list of words"),
    ],
)
def test_a_row_without_words_is_rejected(row, reason):
    assert read_sentence(row) == Rejected(reason)


def test_a_byte_level_tokenizer_sees_words_as_in_running_text():
    processor = tiny_processor()
    text = "Where is my parcel"
    found = processor([spelled(text.split())], is_split_into_words=True)["input_ids"][0]
    assert found == processor(" " + text)["input_ids"]
    assert found != processor([text.split()], is_split_into_words=True)["input_ids"][0]


def test_words_of_scripts_without_spaces_get_none():
    words = ["转", "，", "タワー", "한국", "go"]
    assert spelled(words) == ["转", "，", "タワー", " 한국", " go"]


# two special tokens, "un ##believ ##able", nothing for word 1, "fact ##s", "."
IDS, WORD_IDS = [1, 10, 11, 12, 13, 14, 15, 2], [None, 0, 0, 0, 2, 2, 3, None]


def test_each_word_is_found_at_its_first_sub_word():
    found = align(IDS, WORD_IDS, max_length=8)
    assert (found.input_ids, found.starts, found.kept, found.truncated) == (
        IDS,
        [1, 4, 6],
        [0, 2, 3],
        0,
    )


@pytest.mark.parametrize(
    ("max_length", "ids", "kept", "truncated"),
    [
        (7, [1, 10, 11, 12, 13, 14, 2], [0, 2], 1),
        (6, [1, 10, 11, 12, 2], [0], 3),  # no word is cut in two
        (5, [1, 10, 11, 12, 2], [0], 3),
        (4, [1, 2], [], 6),
    ],
)
def test_what_is_too_long_is_cut_between_words(max_length, ids, kept, truncated):
    found = align(IDS, WORD_IDS, max_length=max_length)
    assert (found.input_ids, found.kept, found.truncated) == (ids, kept, truncated)
    assert found.starts == [1, 4, 6][: len(kept)]
    assert len(found.input_ids) + found.truncated == len(IDS)
