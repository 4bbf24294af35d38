"""Sentence order: where texts are parted, what is cut, and what training draws."""

import numpy as np
import pytest

from ray_sft.tasks import Rejected, SentenceOrder
from ray_sft.tasks.sentence_order import _halves
from tests.factories import tiny_wordpiece

TEXT = "my card was declined. i want a refund. thanks"


def spelled(ids) -> str:
    return " ".join(tiny_wordpiece().convert_ids_to_tokens(ids))


def plain(text: str) -> str:
    return " ".join(tiny_wordpiece().tokenize(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two. Three.", ("One. Two.", "Three.")),
        ('He said "no." Then he left.', ('He said "no."', "Then he left.")),
        ("转账没有到账。请帮我查。", ("转账没有到账。", "请帮我查。")),
        ("a line\nanother", ("a line", "another")),
        ("version 1.5 is out", None),
        ("One sentence.", None),
    ],
)
def test_a_text_is_parted_at_the_end_of_a_sentence_near_its_middle(text, parts):
    assert _halves(text) == parts


def test_both_orders_hold_the_same_parts():
    (example,) = SentenceOrder().encode([{"text": TEXT}], tiny_wordpiece())
    seen = {}
    for seed in range(20):
        drawn = SentenceOrder().resample(example, tiny_wordpiece(), np.random.default_rng(seed))
        seen[int(drawn.arrays["labels"])] = spelled(drawn.arrays["input_ids"])
        again = SentenceOrder().resample(drawn, tiny_wordpiece(), np.random.default_rng(99))
        once = SentenceOrder().resample(example, tiny_wordpiece(), np.random.default_rng(99))
        for name in once.arrays:
            np.testing.assert_array_equal(again.arrays[name], once.arrays[name])
    first, second = plain("my card was declined."), plain("i want a refund. thanks")
    assert seen == {
        1: f"[CLS] {first} [SEP] {second} [SEP]",
        0: f"[CLS] {second} [SEP] {first} [SEP]",
    }


def test_training_draws_both_orders_alike():
    (example,) = SentenceOrder().encode([{"text": TEXT}], tiny_wordpiece())
    rng = np.random.default_rng(0)
    labels = [
        int(SentenceOrder().resample(example, tiny_wordpiece(), rng).arrays["labels"])
        for _ in range(400)
    ]
    assert np.mean(labels) == pytest.approx(0.5, abs=0.08)


def test_what_is_farthest_from_the_parting_is_cut():
    text = "one two card refund. parcel thanks my want account transfer"
    (whole,) = SentenceOrder().encode([{"text": text}], tiny_wordpiece())
    (cut,) = SentenceOrder(max_length=11).encode([{"text": text}], tiny_wordpiece())
    assert cut.length == 11
    assert cut.truncated == whole.length - 11
    joined = SentenceOrder(max_length=11).resample(cut, tiny_wordpiece(), AlwaysInOrder())
    ids = joined.arrays["input_ids"]
    kept = [one for one in spelled(ids).split() if not one.startswith("[")]
    everything = plain(text).split()
    start = next(at for at in range(len(everything)) if everything[at : at + len(kept)] == kept)
    assert start > 0
    assert start + len(kept) < len(everything)


class AlwaysInOrder:
    def integers(self, _high):
        return 0


def test_a_single_sentence_is_no_example():
    rows = [{"text": "my card"}, {"text": " "}, {"text": 3}]
    found = SentenceOrder().encode(rows, tiny_wordpiece())
    assert found == [
        Rejected("text has a single sentence"),
        Rejected("text is missing or empty"),
        Rejected("text is missing or empty"),
    ]
