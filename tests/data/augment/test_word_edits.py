"""How edits of words are placed on texts and tagged sentences."""

from typing import Literal

import pytest

from ray_sft.data.augment import Draws, WordEdits


class Leave(WordEdits):
    """Leaves out the words of a list, and puts "new" behind those of another."""

    kind: Literal["leave"] = "leave"
    gone: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()

    def edit_words(self, words, protected, rng):
        del rng
        edits = {}
        for index, word in enumerate(words):
            others = [word] if word not in self.gone or protected[index] else []
            if word in self.grown and not protected[index]:
                others.append("new" if word.isascii() else "新")
            edits[index] = others
        return edits


RNG = Draws(0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a x b", "a b"),
        ("x b", "b"),
        ("a x", "a"),
        ("a x.", "a."),
        ("a, x b", "a, b"),
        ("a (x) b", "a () b"),
        ("a  b x  c", "a  b  c"),
        ("a\n\nx b", "a\n\nb"),
        ("a x\n\nb", "a\n\nb"),
        ("\tx b\tc", "\t b\tc"),
    ],
)
def test_a_deleted_word_takes_one_blank_along_and_no_line_or_mark(before, after):
    assert Leave(gone=("x",)).edit(before, RNG) == after


def test_new_words_stand_apart_in_english_and_not_in_chinese():
    assert Leave(grown=("a",)).edit("(a), b", RNG) == "(a new), b"
    assert Leave(grown=("好",)).edit("好，b", RNG) == "好新，b"


@pytest.mark.parametrize("tags", [("I-PER", "O", "I-PER"), ("B-PER", "O", "I-ORG")])
def test_a_word_that_parts_two_entities_is_put_back(tags):
    row = {"tokens": ["Ann", "x", "Bob"], "tags": list(tags)}
    assert Leave(gone=("x",))(row, RNG) == row
    longer = {"tokens": ["Ann", "x", "x", "Bob"], "tags": [tags[0], "O", "O", tags[2]]}
    assert Leave(gone=("x",))(longer, RNG) == row


def test_new_words_of_a_sentence_are_outside_of_entities():
    row = {"tokens": ["at", "Ann"], "tags": ["O", "B-PER"], "id": 1}
    changed = Leave(grown=("at", "Ann"))(row, RNG)
    assert changed == {"tokens": ["at", "new", "Ann"], "tags": ["O", "O", "B-PER"], "id": 1}


def test_a_text_with_tags_is_edited_by_the_words_that_its_task_reads():
    row = {"text": "say x, Ann!", "tags": ["O", "O", "O", "B-PER", "O"]}
    changed = Leave(gone=("x",))(row, RNG)
    assert changed["tokens"] == ["say", ",", "Ann", "!"]
    assert changed["tags"] == ["O", "O", "B-PER", "O"]


def test_an_operation_that_moves_an_entity_is_a_programming_error():
    class Reverse(Leave):
        def edit_words(self, words, protected, rng):
            return super().edit_words(words, [False] * len(protected), rng)

    with pytest.raises(AssertionError, match="split or removed an entity's word"):
        Reverse(gone=("Ann",))({"tokens": ["x", "Ann"], "tags": ["O", "B-PER"]}, RNG)
