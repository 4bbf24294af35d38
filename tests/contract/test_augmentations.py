"""The laws that every augmentation obeys, on rows of every task."""

import copy
import pickle

import pytest
from annotated_types import Le
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ray_sft.data.augment import AnyAugmentation, Augmentation, Draws, WordEdits
from tests.factories import AUGMENTATIONS, members

KINDS = members(AnyAugmentation)

ENGLISH = "Hello, I bought a parcel (order #12345) and it hasn't arrived. Can you check? Thanks!"
CHINESE = "您好，我昨天转账500元还没有到账，请帮我查询一下账户余额。谢谢！"
TEXT_ROWS = (
    {"id": "a", "text": ENGLISH, "label": "parcel"},
    {"id": "b", "text": CHINESE, "label": "transfer"},
    {"text": ENGLISH, "positive": CHINESE, "negatives": [ENGLISH]},
    {"history": [ENGLISH, CHINESE], "candidate": ENGLISH, "label": 1},
    {
        "messages": [
            {"role": "system", "content": ENGLISH},
            {"role": "user", "content": ENGLISH},
            {"role": "assistant", "content": CHINESE},
            {"role": "user", "content": CHINESE},
        ]
    },
)
ENGLISH_WORDS = ["buy", "refund", "problem", "A", "Ltd", ",", ".", "-", "@bob", "42", "I've"]
WORDS = st.sampled_from([*"转账问题银行，。", *ENGLISH_WORDS])
SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["", "", "PER", "ORG"]), st.lists(WORDS, min_size=1, max_size=3)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def one(request) -> Augmentation:
    kind = request.param
    assert kind in AUGMENTATIONS, f"{kind.__name__} has no factory in tests/factories.py"
    return AUGMENTATIONS[kind]()


def at_rate(operation: Augmentation, rate: float) -> Augmentation:
    """The same operation with every chance of a change set to ``rate``."""
    fields = type(operation).model_fields.items()
    rates = [
        name for name, field in fields if field.annotation is float and Le(1) in field.metadata
    ]
    assert rates
    return type(operation).model_validate(operation.model_dump() | dict.fromkeys(rates, rate))


def tag(segments, scheme):
    """Tokens and tags of ``(type, words)``; an empty type is outside of every entity."""
    tokens, tags, before = [], [], ""
    for kind, words in segments:
        inside = [f"I-{kind}" if kind else "O"] * len(words)
        if kind and (scheme == "bio" or (scheme == "iob1" and kind == before)):
            inside[0] = f"B-{kind}"
        tokens += words
        tags += inside
        before = kind
    return tokens, tags


def entities(tokens, tags):
    """Type and words of each entity, by the rule of CoNLL's evaluation script."""
    found, before = [], "O"
    for token, name in zip(tokens, tags, strict=True):
        if name != "O":
            if name[0] == "B" or before[2:] != name[2:]:
                found.append((name[2:], []))
            found[-1][1].append(token)
        before = name
    return found


def test_kind_is_the_name_of_the_module_and_of_the_class(one):
    assert type(one).__module__.rsplit(".", 1)[-1] == one.kind
    assert type(one).__name__.lower() == one.kind.replace("_", "")


def test_survives_json_and_pickling_and_is_frozen(one):
    harsh = at_rate(one, 0.5)
    assert TypeAdapter(AnyAugmentation).validate_json(harsh.model_dump_json()) == harsh
    assert pickle.loads(pickle.dumps(harsh)) == harsh
    with pytest.raises(ValueError, match="frozen"):
        one.copies = 2


def test_every_field_is_explained(one):
    for name, field in type(one).model_fields.items():
        assert name == "kind" or field.description, name


@pytest.mark.parametrize("row", TEXT_ROWS)
def test_the_same_generator_gives_the_same_copy_and_the_row_stays(one, row):
    harsh, before = at_rate(one, 0.5), copy.deepcopy(row)
    copies = [harsh(row, Draws(seed)) for seed in (1, 1, 2, 3, 4)]
    assert row == before
    assert copies[0] == copies[1]
    assert any(found != copies[0] for found in copies[2:])


@pytest.mark.parametrize("row", TEXT_ROWS)
def test_rate_zero_is_the_identity(one, row):
    assert at_rate(one, 0.0)(row, Draws(0)) == row


def test_rate_zero_is_the_identity_of_tagged_rows(one):
    for row in (
        {"tokens": ["in", "New", "York", "."], "tags": ["O", "B-LOC", "I-LOC", "O"]},
        {"text": "in New York.", "tags": ["O", "B-LOC", "I-LOC", "O"]},
    ):
        assert at_rate(one, 0.0)(row, Draws(0)) == row


@pytest.mark.parametrize("row", TEXT_ROWS)
def test_nothing_but_text_changes(one, row):
    harsh = at_rate(one, 0.5)
    for seed in range(20):
        changed = harsh(row, Draws(seed))
        assert changed.keys() == row.keys()
        for name in row.keys() - {"text", "candidate", "history", "messages"}:
            assert changed[name] == row[name]
        assert len(changed.get("history", [])) == len(row.get("history", []))
        turns = zip(changed.get("messages", []), row.get("messages", []), strict=True)
        for after, before in turns:
            assert after["role"] == before["role"]
            assert after == before or before["role"] == "user"


def test_addresses_mentions_and_tickers_stay(one):
    kept = ["https://t.co/aBc?x=1", "bob.smith@example.com", "@bob", "#deal", "$AAPL"]
    harsh = at_rate(one, 0.5)
    for seed in range(20):
        row = {"text": " so ".join(kept) + " ok"}
        changed = harsh(row, Draws(seed))["text"]
        assert all(word in changed for word in kept), changed


@pytest.mark.parametrize("text", ["", " ", "\n", "?", "。", "...", "a", "好", "1"])
def test_a_text_never_becomes_empty_and_an_empty_one_stays(one, text):
    for seed in range(20):
        changed = at_rate(one, 1.0)({"text": text}, Draws(seed))["text"]
        assert bool(changed.strip()) == bool(text.strip())
        assert changed == text or any(letter.isalpha() for letter in text)


def test_malformed_columns_are_left_to_the_task(one):
    rows = (
        {"text": None, "history": "a, b", "messages": "hi", "tokens": "x", "tags": None},
        {"messages": ["hi"], "history": [1], "tokens": [1], "tags": ["O"]},
        {"messages": [{"role": "user"}, {"content": "hi"}, {"role": "user", "content": None}]},
        {"tokens": ["a", "b"], "tags": ["O"]},
    )
    for row in rows:
        assert at_rate(one, 1.0)(row, Draws(0)) == row


@pytest.mark.parametrize("scheme", ["bio", "iob1", "io"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(segments=SEGMENTS, seed=st.integers(0, 10**6), rate=st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_entities_stay_whole_and_in_order(kind, scheme, segments, seed, rate):
    tokens, tags = tag(segments, scheme)
    changed = at_rate(AUGMENTATIONS[kind](), rate)({"tokens": tokens, "tags": tags}, Draws(seed))
    before, after = entities(tokens, tags), entities(changed["tokens"], changed["tags"])
    assert [name for name, _ in after] == [name for name, _ in before]
    if issubclass(kind, WordEdits):  # others may put a longer name in place of a name
        assert [len(words) for _, words in after] == [len(words) for _, words in before]
        inside = [name for name in changed["tags"] if name != "O"]
        assert inside == [name for name in tags if name != "O"]
    assert len(changed["tokens"]) == len(changed["tags"]) > 0
    assert all(word and not word.isspace() for word in changed["tokens"])
    if kind.__name__ in {"Cutoff", "Eda"}:
        assert after == before, "these edit no entity"
