import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_sft.core import DataError
from ray_sft.tasks import IGNORED
from ray_sft.tasks.entity_tags import (
    Span,
    entity_spans,
    entity_type,
    tag_ids,
    tag_names,
    token_targets,
)
from ray_sft.tasks.words import align

LABELS = {"LOC": 0, "PER": 1}
NAMES = tag_names(list(LABELS))


def spans(tags, scheme="bio"):
    return [
        (span.start, span.end, list(LABELS)[span.label])
        for span in entity_spans(tag_ids(tags.split(), scheme, LABELS))
    ]


def test_tags_of_a_model_are_o_and_two_for_each_type():
    assert NAMES == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert tag_ids(NAMES, "bio", LABELS) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-LOC", [(0, 1, "LOC")]),
        ("O B-LOC I-LOC O B-PER", [(1, 3, "LOC"), (4, 5, "PER")]),
        ("B-LOC B-LOC I-LOC", [(0, 1, "LOC"), (1, 3, "LOC")]),
        ("I-LOC I-LOC O I-PER", [(0, 2, "LOC"), (3, 4, "PER")]),  # no B-: begins one
        ("B-LOC I-PER I-PER", [(0, 1, "LOC"), (1, 3, "PER")]),
        ("B-LOC O I-LOC", [(0, 1, "LOC"), (2, 3, "LOC")]),
    ],
)
def test_entities_that_tags_mean(tags, expected):
    assert spans(tags) == expected


def test_a_sentence_in_three_schemes():
    """Tjong Kim Sang 2002's example of two entities of a type that touch; io cannot say it."""
    two = [(0, 2, "LOC"), (2, 3, "LOC"), (4, 5, "PER")]
    assert spans("B-LOC I-LOC B-LOC O B-PER", "bio") == two
    assert spans("I-LOC I-LOC B-LOC O I-PER", "iob1") == two
    assert spans("I-LOC I-LOC I-LOC O I-PER", "io") == [(0, 3, "LOC"), (4, 5, "PER")]


@given(st.lists(st.sampled_from(NAMES), max_size=12))
def test_bio_of_the_entities_means_the_same_entities(tags):
    found = entity_spans(tag_ids(tags, "bio", LABELS))
    aligned = align(range(len(tags)), range(len(tags)), max_length=99)
    targets, lost = token_targets(found, aligned)
    assert entity_spans(targets.tolist()) == found
    assert not len(lost)
    for before, tag in zip([0, *targets], targets, strict=False):
        assert tag == 0 or tag % 2 == 1 or before in (tag, tag - 1), "an I- continues something"


@pytest.mark.parametrize(
    ("tag", "scheme", "message"),
    [
        ("PER", "bio", r"tag 'PER' is none of the scheme bio \(O, B-<type>, I-<type>\)"),
        ("B-", "bio", "tag 'B-' is none"),
        ("S-PER", "iob1", "tag 'S-PER' is none of the scheme iob1"),
        ("b-PER", "bio", "tag 'b-PER' is none"),
        ("", "bio", "tag '' is none"),
        (3, "bio", "tag 3 is none"),
        (None, "bio", "tag None is none"),
        ("B-PER", "io", r"tag 'B-PER' is none of the scheme io \(O, I-<type>\)"),
    ],
)
def test_a_tag_of_no_scheme_is_named(tag, scheme, message):
    with pytest.raises(DataError, match=message):
        entity_type(tag, scheme)


def test_an_unknown_type_is_named():
    with pytest.raises(DataError, match="entity type 'ORG' is not one of the task's labels"):
        tag_ids(["O", "I-ORG"], "bio", LABELS)


def test_types_may_hold_hyphens():
    assert entity_type("I-creative-work", "bio") == "creative-work"


@pytest.mark.parametrize(
    ("span", "labels", "lost"),
    [
        (Span(0, 3, 1), [3, 4], []),  # word 1 vanishes inside
        (Span(1, 3, 1), [0, 3], []),  # at the beginning: the next word begins the entity
        (Span(0, 2, 1), [3, 0], []),
        (Span(1, 2, 1), [0, 0], [1]),
        (Span(2, 5, 0), [0, 1], []),  # cut off at the end
        (Span(3, 5, 0), [0, 0], [0]),
    ],
)
def test_an_entity_has_the_words_that_are_left(span, labels, lost):
    aligned = align([7, 8, 9, 10, 11], [0, 2, 2, 3, 4], max_length=3)
    assert aligned.kept == [0, 2]
    targets, found = token_targets([span], aligned)
    assert targets.tolist() == [*labels, IGNORED]
    assert found.tolist() == lost
