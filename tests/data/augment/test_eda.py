from collections import Counter

import pytest

from ray_sft.data.augment import Draws, Eda
from ray_sft.data.augment.synonyms import CHINESE, ENGLISH

ALPHAS = ("alpha_synonym", "alpha_insertion", "alpha_swap", "alpha_deletion")
ENGLISH_TEXT = "my refund , my parcel and my invoice are late ; please fix this problem today !"
CHINESE_TEXT = "我昨天转账，还没有到账。请帮忙查询余额！"


def only(name, alpha):
    return Eda(**{other: alpha if other == name else 0 for other in ALPHAS})


def edits(operation, text, num=40):
    return [operation.edit(text, Draws(seed)) for seed in range(num)]


def is_subsequence(short, long):
    rest = iter(long)
    return all(item in rest for item in short)


def test_synonyms_replace_as_many_words_as_the_paper_says():
    before = ENGLISH_TEXT.split()
    num_words = sum(word.isalpha() for word in before)
    for alpha in (0.01, 0.2, 0.3):
        for text in edits(only("alpha_synonym", alpha), ENGLISH_TEXT):
            pairs = [(a, b) for a, b in zip(before, text.split(), strict=True) if a != b]
            assert len(pairs) == max(1, int(alpha * num_words))
            assert all(new in ENGLISH[old] for old, new in pairs)


def test_insertion_adds_synonyms_of_words_of_the_text():
    before = ENGLISH_TEXT.split()
    allowed = {synonym for word in before for synonym in ENGLISH.get(word, ())}
    places = set()
    for text in edits(only("alpha_insertion", 0.2), ENGLISH_TEXT):
        after = text.split()
        assert is_subsequence(before, after)
        added = Counter(after) - Counter(before)
        assert added.total() == int(0.2 * 14)
        assert set(added) <= allowed
        places |= {index for index, word in enumerate(after) if word in added}
    assert len(places) > 8, "new words come at random places"


def test_swap_keeps_words_and_punctuation():
    before = ENGLISH_TEXT.split()
    for text in edits(only("alpha_swap", 0.01), ENGLISH_TEXT):
        after = text.split()
        assert Counter(after) == Counter(before)
        assert [w for w in after if not w.isalpha()] == [",", ";", "!"]
        moved = [a for a, b in zip(before, after, strict=True) if a != b]
        assert len(moved) == 2 or text == ENGLISH_TEXT, "one my for the other"


def test_deletion_leaves_out_each_word_with_its_chance():
    text = "word " * 4000
    left = len(only("alpha_deletion", 0.3).edit(text, Draws(0)).split())
    assert left / 4000 == pytest.approx(0.7, abs=0.022)  # 3 sigma
    assert all(edits(only("alpha_deletion", 1.0), "only two"))


def test_chinese_words_are_replaced_by_longest_match():
    changed = set(edits(only("alpha_synonym", 0.01), CHINESE_TEXT))
    assert CHINESE_TEXT.replace("转账", "汇款") in changed
    assert CHINESE_TEXT.replace("查询", "查看") in changed
    for text in changed:
        assert [c for c in text if c in "，。！"] == ["，", "。", "！"]


def test_chinese_neighbours_are_swapped():
    for text in edits(only("alpha_swap", 0.01), CHINESE_TEXT):
        assert sorted(text) == sorted(CHINESE_TEXT)
        assert [c for c in text if c in "，。！"] == ["，", "。", "！"]
        assert text != CHINESE_TEXT
    assert "昨天我转账" in " ".join(edits(only("alpha_swap", 0.01), CHINESE_TEXT))


def test_chinese_characters_that_are_tokens_are_words_together():
    row = {"tokens": list("王伟转账"), "tags": ["B-PER", "I-PER", "O", "O"]}
    changed = only("alpha_synonym", 0.5)(row, Draws(0))
    assert changed == {"tokens": list("王伟汇款"), "tags": row["tags"]}
    row = {"tokens": list("王伟登录"), "tags": ["B-PER", "I-PER", "I-PER", "O"]}
    assert only("alpha_synonym", 0.5)(row, Draws(0)) == row
    assert set(CHINESE["优惠券"]) == {"代金券", "抵用券"}


def test_a_synonym_of_another_length_keeps_the_tags_in_step():
    row = {"tokens": list("查询，王伟"), "tags": ["O", "O", "O", "B-PER", "I-PER"]}
    lengths = set()
    for seed in range(20):
        changed = only("alpha_synonym", 0.5)(row, Draws(seed))
        assert "".join(changed["tokens"])[:-3] in CHINESE["查询"]
        assert changed["tags"] == ["O"] * (len(changed["tokens"]) - 2) + ["B-PER", "I-PER"]
        lengths.add(len(changed["tokens"]))
    assert lengths == {5, 6}, "查看 and 查一下"


def test_an_edit_that_changes_nothing_is_followed_by_another():
    operation = Eda(alpha_synonym=0.1, alpha_insertion=0.1, alpha_swap=0.1, alpha_deletion=0)
    assert set(edits(operation, "qwx zzk")) == {"zzk qwx"}
