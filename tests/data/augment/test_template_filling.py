import pytest
from pydantic import ValidationError

from ray_sft.data.augment import Draws, TemplateFilling

CITIES = ("Paris", "New York", "\u5317\u4eac")


def made(row, num=30, **fields):
    operation = TemplateFilling(**{"slots": {"city": CITIES}} | fields)
    return [operation(row, Draws(seed)) for seed in range(num)]


def test_a_value_becomes_each_other_value_of_its_slot():
    row = {"text": "From Paris, please", "label": "trip"}
    found = made(row)
    assert {copy["text"] for copy in found} == {
        "From New York, please",
        "From \u5317\u4eac, please",
    }
    assert {copy["label"] for copy in found} == {"trip"}


def test_values_within_words_stay_and_the_longest_is_taken():
    slots = {"city": ("York", "New York")}
    row = {"text": "Yorkshire, New York and NewYork"}
    assert {copy["text"] for copy in made(row, slots=slots)} == {"Yorkshire, York and NewYork"}


def test_chinese_values_are_found_without_spaces():
    slots = {"city": ("\u5317\u4eac", "\u4e0a\u6d77")}
    assert made({"text": "\u6211\u5728\u5317\u4eac\u5de5\u4f5c"}, 1, slots=slots)[0]["text"] == (
        "\u6211\u5728\u4e0a\u6d77\u5de5\u4f5c"
    )


def test_a_label_with_templates_gets_them_filled():
    templates = {"trip": ("To {city}!", "Is {city} far from {city}?")}
    found = {copy["text"] for copy in made({"text": "x", "label": "trip"}, 60, templates=templates)}
    assert {"To Paris!", "To New York!", "To \u5317\u4eac!"} <= found
    assert any(text.startswith("Is ") for text in found)
    other = {"text": "I like Paris", "label": "other"}
    assert all(copy["text"] != "To Paris!" for copy in made(other, templates=templates))


@pytest.mark.parametrize(
    ("tags", "longer"),
    [
        (["O", "B-LOC", "O"], ["O", "B-LOC", "I-LOC", "O"]),
        (["O", "I-LOC", "O"], ["O", "I-LOC", "I-LOC", "O"]),
    ],
)
def test_tags_follow_a_longer_name(tags, longer):
    row = {"tokens": ["in", "Rome", "."], "tags": tags}
    copy = made(row, 1, slots={"LOC": ("New York",)})[0]
    assert copy == {"tokens": ["in", "New", "York", "."], "tags": longer}


def test_tags_follow_a_shorter_name_and_a_neighbour_stays_apart():
    row = {"tokens": ["New", "York", "Rome", "x"], "tags": ["I-LOC", "I-LOC", "B-LOC", "O"]}
    copy = made(row, 1, slots={"LOC": ("Oslo",)})[0]
    assert copy == {"tokens": ["Oslo", "Oslo", "x"], "tags": ["I-LOC", "B-LOC", "O"]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slots": {}}, "at least 1"),
        ({"slots": {"city": ()}}, "one value or more"),
        ({"slots": {"city": ("",)}}, "none of them empty"),
        ({"slots": {"city": ("a",)}, "templates": {"x": ("{town}",)}}, "no slot"),
        ({"slots": {"city": ("a",)}, "templates": {"x": ()}}, "one sentence"),
    ],
)
def test_wrong_settings_say_what_is_missing(fields, message):
    with pytest.raises(ValidationError, match=message):
        TemplateFilling(**fields)
