"""Whole words are hidden together."""

import numpy as np
import pytest
from transformers import ByT5Tokenizer

from ray_sft.core import DataError
from ray_sft.tasks import IGNORED, MaskedLanguageModel
from tests.factories import TEXTS, tiny_wordpiece

TASK = MaskedLanguageModel(whole_words=True, mask_rate=0.5, max_length=64)
LONG_WORDS = ("cardholder accountant parcels", "transferred refunding, thanks helped")
"""Of several tokens each."""


def hidden_words(example):
    """By word, how many of its tokens are hidden, and how many it has."""
    special = np.isin(example.arrays["input_ids"], tiny_wordpiece().all_special_ids)
    is_target = example.arrays["labels"] != IGNORED
    words = example.arrays["words"]
    counts = {}
    for word in np.unique(words[is_target]):
        own = (words == word) & (is_target | ~special)
        counts[int(word)] = (int(is_target[words == word].sum()), int(own.sum()))
    return counts


def test_the_tokens_of_a_word_are_hidden_together_but_for_the_last():
    together = 0
    rows = [{"text": text} for text in LONG_WORDS]
    for example in TASK.encode(rows, tiny_wordpiece()):
        for seed in range(10):
            drawn = TASK.resample(example, tiny_wordpiece(), np.random.default_rng(seed))
            counts = hidden_words(drawn)
            parts = [word for word, (hidden, size) in counts.items() if hidden < size]
            assert len(parts) <= 1
            together += sum(hidden == size > 1 for hidden, size in counts.values())
    assert together > 10


def test_as_many_tokens_are_targets_as_without_whole_words():
    rows = [{"text": text} for text in TEXTS]
    single = MaskedLanguageModel(mask_rate=0.5, max_length=64)
    for one, two in zip(
        TASK.encode(rows, tiny_wordpiece()), single.encode(rows, tiny_wordpiece()), strict=True
    ):
        counts = [(each.arrays["labels"] != IGNORED).sum() for each in (one, two)]
        assert counts[0] == counts[1]
        assert "words" not in two.arrays


def test_a_tokenizer_that_does_not_tell_words_apart_is_refused():
    with pytest.raises(DataError, match=r"does not tell words apart\. Set whole_words: false"):
        TASK.encode([{"text": "gout"}], ByT5Tokenizer())
