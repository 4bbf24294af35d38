import json
import re
import time
from contextlib import suppress

import numpy as np
import pytest

from ray_sft.core import DataError, ServeError
from ray_sft.inference import Constraint
from ray_sft.inference.generation.constraints import ConstraintCompiler

SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["refund", "parcel"]}, "urgent": {"type": "boolean"}},
    "required": ["intent", "urgent"],
    "additionalProperties": False,
}


@pytest.fixture
def compiler(processor):
    return ConstraintCompiler(
        processor, vocab_size=len(processor), eos_token_ids={processor.eos_token_id}
    )


def schema(tree) -> Constraint:
    return Constraint("json_schema", json.dumps(tree))


def drawn(compiler, processor, constraint, *, seed=0, at_most=200) -> str:
    """A sentence of the language, by tokens drawn among those that are allowed."""
    matcher, rng, tokens = compiler.matcher(constraint), np.random.default_rng(seed), []
    while not matcher.is_complete and len(tokens) < at_most:
        logits = matcher.mask(rng.normal(size=len(processor)).astype(np.float32))
        token = int(logits.argmax())
        if token == processor.eos_token_id:
            break
        matcher.advance(token)
        tokens.append(token)
    return processor.decode(tokens)


def test_whatever_is_drawn_fits_the_schema(compiler, processor):
    for seed in range(10):
        tree = json.loads(drawn(compiler, processor, schema(SCHEMA), seed=seed))
        assert tree["intent"] in ("refund", "parcel")
        assert isinstance(tree["urgent"], bool)
        assert set(tree) == {"intent", "urgent"}


def test_whatever_is_drawn_fits_the_expression(compiler, processor):
    expression = r"[A-Z]{2}-[0-9]{4}(-x)?"
    for seed in range(10):
        text = drawn(compiler, processor, Constraint("regex", expression), seed=seed)
        assert re.fullmatch(expression, text), text


def test_a_choice_may_hold_any_character(compiler, processor):
    choices = ['say "no"', "back\\slash", "转账", "two\nlines"]
    found = {
        drawn(compiler, processor, Constraint("choice", json.dumps(choices)), seed=seed)
        for seed in range(40)
    }
    assert found == set(choices)


def test_a_grammar_in_larks_spelling(compiler, processor):
    text = drawn(compiler, processor, Constraint("lark", 'start: "a" start "b" | "c"'))
    assert re.fullmatch(r"a*cb*", text)
    assert text.count("a") == text.count("b")


@pytest.mark.parametrize(
    ("constraint", "match"),
    [
        (Constraint("regex", "(a"), "regular expression cannot be used.*unclosed"),
        (Constraint("lark", "start: foo"), 'grammar cannot be used.*unknown name: "foo"'),
        (schema({"type": "nonsense"}), "JSON schema cannot be used.*nonsense"),
        (schema({"not": {"type": "string"}}), "JSON schema cannot be used.*not"),
        (Constraint("json_schema", "[1"), "JSON schema cannot be used"),
    ],
)
def test_a_constraint_that_is_none_is_refused(compiler, constraint, match):
    with pytest.raises(DataError, match=match):
        compiler.matcher(constraint)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("regex", "(a{1000}){1000}"),
        Constraint("regex", "(a{1,300}b{1,300}){1,300}c"),
        schema({"allOf": [{"anyOf": [{"const": i * j} for i in range(60)]} for j in range(8)]}),
    ],
)
def test_a_constraint_that_would_cost_much_is_given_up_soon(compiler, processor, constraint):
    start = time.perf_counter()
    with suppress(DataError, ServeError):
        drawn(compiler, processor, constraint, at_most=50)
    assert time.perf_counter() - start < 2.0  # 0.1 s when nothing else runs


def test_matchers_of_one_constraint_are_independent(compiler, processor):
    constraint = Constraint("choice", '["yes", "no"]')
    one, other = compiler.matcher(constraint), compiler.matcher(constraint)
    logits = np.zeros(len(processor), dtype=np.float32)
    before = other.mask(logits)
    one.advance(int(np.flatnonzero(np.isfinite(one.mask(logits)))[0]))
    np.testing.assert_array_equal(other.mask(logits), before)


def test_a_token_against_the_constraint_is_an_error(compiler, processor):
    matcher = compiler.matcher(Constraint("choice", '["yes"]'))
    with pytest.raises(ServeError, match="could not be followed"):
        matcher.advance(processor.convert_tokens_to_ids("%"))


def test_the_bytes_of_tokens_make_up_the_text(compiler, processor):
    text = "转账 to \U0001f600"
    tokens = processor(text, add_special_tokens=False)["input_ids"]
    assert b"".join(compiler.token_bytes(token) for token in tokens).decode() == text
