import pytest

from ray_sft.models import train_tokenizer
from ray_sft.tasks import Example, Ranking

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.fixture(scope="module")
def processor():
    return train_tokenizer([" ".join(WORDS)] * 4, vocab_size=320)


def read_words(task, history, processor) -> list[str]:
    (example,) = task.encode([{"history": list(history), "candidate": "new"}], processor)
    assert isinstance(example, Example)
    text = processor.decode(example.arrays["input_ids"])
    return [word for word in WORDS if word in text]


@pytest.mark.parametrize("num_texts", range(len(WORDS) + 1))
def test_the_latest_texts_are_read_and_all_of_a_short_history(processor, num_texts):
    task = Ranking(max_length=512, max_history=4)
    history = WORDS[:num_texts]
    assert read_words(task, history, processor) == list(history[-4:])


def test_empty_texts_take_no_place(processor):
    task = Ranking(max_length=512, max_history=3)
    history = ["one", "", "two", "  ", "three", ""]
    assert read_words(task, history, processor) == ["one", "two", "three"]


def test_no_history_is_read_where_none_is_asked_for(processor):
    assert read_words(Ranking(max_length=512, max_history=0), WORDS, processor) == []
