"""The laws that every compression pass obeys without running."""

import pytest

from ray_sft.compression import Pass
from tests.factories import PASS_TYPES, PASSES


@pytest.fixture(params=PASS_TYPES, ids=lambda kind: kind.__name__)
def one(request) -> Pass:
    assert request.param in PASSES, f"{request.param.__name__} has no factory in tests/factories.py"
    return PASSES[request.param]()


def test_kind_is_the_name_of_the_module_and_of_the_class(one):
    assert type(one).__module__.rsplit(".", 1)[-1] == one.kind
    assert type(one).__name__.lower() == one.kind.replace("_", "")


def test_survives_json(one):
    assert type(one).model_validate_json(one.model_dump_json()) == one


def test_declares_what_it_consumes_and_produces(one):
    assert one.consumes in ("torch", "onnx")
    assert one.produces in ("torch", "onnx")


def test_variants_and_kinds_are_distinct():
    for attribute in ("variant",):
        values = [getattr(kind, attribute) for kind in PASS_TYPES]
        assert len(set(values)) == len(values)
    kinds = [kind.model_fields["kind"].default for kind in PASS_TYPES]
    assert len(set(kinds)) == len(kinds)
