from pypinyin import lazy_pinyin

from ray_sft.data.augment.look_alikes import KEYBOARD, OCR, SHAPES, homophones
from ray_sft.data.augment.segments import is_han


def test_keys_are_each_others_neighbours():
    assert sorted(KEYBOARD) == sorted("abcdefghijklmnopqrstuvwxyz")
    assert set(KEYBOARD["s"]) == set("awedxz")
    assert set(KEYBOARD["p"]) == set("ol")
    assert all(key in KEYBOARD[other] for key, others in KEYBOARD.items() for other in others)


def test_shapes_are_each_others_look_alikes():
    assert set(SHAPES["己"]) == set("已巳")
    for character, others in SHAPES.items():
        assert is_han(character + others)
        assert character not in others
        assert len(set(others)) == len(others)
        assert all(character in SHAPES[other] for other in others)


def test_text_recognition_never_reads_a_letter_as_itself():
    assert all(letter not in others and others for letter, others in OCR.items())


def test_homophones_sound_alike_in_their_word_and_are_common():
    as_bank, alone = homophones("银行")[1], homophones("行")[0]
    assert {"杭", "航"} <= set(as_bank)
    assert {"形", "性"} <= set(alone)
    for word in ("银行", "转账", "是"):
        for character, others in zip(word, homophones(word), strict=True):
            reading = lazy_pinyin(word)[word.index(character)]
            assert others
            assert character not in others
            assert all(lazy_pinyin(other) == [reading] for other in others)
            others.encode("gb2312")


def test_characters_without_a_reading_have_no_homophones():
    assert homophones("\U0002ffff银".replace("\U0002ffff", "\U0003134f"))[0] == ""
