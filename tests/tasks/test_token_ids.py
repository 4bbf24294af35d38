"""Ids alone are those that a whole encoding has, whatever the tokenizer's file says of cutting."""

import pytest

from ray_sft.models import load_processor, locate
from ray_sft.tasks.token_ids import token_ids

TEXTS = ["Where is my card?", "naïve café, 3.90 €", "我的卡在哪里？", "[MASK] it", "a " * 300, ""]


@pytest.fixture(scope="module")
def folder():
    return locate("embedded/minilm").processor


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_the_ids_of_a_whole_encoding(folder, add_special_tokens):
    expected = load_processor(folder)(TEXTS, add_special_tokens=add_special_tokens, verbose=False)
    processor = load_processor(folder)
    processor.backend_tokenizer.enable_truncation(8)
    processor.backend_tokenizer.enable_padding(length=16)
    for _ in range(2):  # the first call resets what the file says, the second need not
        found = token_ids(TEXTS, processor, add_special_tokens=add_special_tokens)
        assert found == expected["input_ids"]
    assert processor.backend_tokenizer.truncation is None


def test_of_no_texts_there_are_no_ids(folder):
    assert token_ids([], load_processor(folder), add_special_tokens=True) == []
