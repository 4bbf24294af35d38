"""What speaks against a bundle: its own record, and the figures of the one it replaces."""

import shutil

import pytest

from ray_sft.bundle import Bundle, Manifest
from ray_sft.core import ConfigError
from serve.release.gate import check_budget_figures, default_budget, inspect

ACCURACY, LOSS = "intent/accuracy", "intent/loss"


def manifest(first: Bundle, **changes: object) -> Manifest:
    return first.manifest.model_copy(update=changes)


def bundle(first: Bundle, **changes: object) -> Bundle:
    return Bundle(first.path, manifest(first, **changes))


def refusals(*args, **kwargs) -> list[str]:
    return [one.text for one in inspect(*args, **kwargs) if one.refuses]


def notes(*args, **kwargs) -> list[str]:
    return [one.text for one in inspect(*args, **kwargs) if not one.refuses]


def test_a_bundle_that_is_as_good_passes(first):
    new = bundle(first, metrics={ACCURACY: 0.905, LOSS: 0.31})
    old = manifest(first, metrics={ACCURACY: 0.91, LOSS: 0.30})
    assert inspect("intents", new, old, {}) == []


def test_a_bundle_that_is_worse_by_more_than_the_budget_is_refused(first):
    new = bundle(first, metrics={ACCURACY: 0.88, LOSS: 0.5})
    old = manifest(first, metrics={ACCURACY: 0.91, LOSS: 0.3})
    (text,) = refusals("intents", new, old, {})
    assert "intent/accuracy is 0.8800, and 0.9100 in the bundle that is served" in text
    assert refusals("intents", new, old, {"accuracy": -0.05}) == []
    (text,) = refusals("intents", new, old, {"accuracy": -0.05, "loss": 0.1})
    assert "intent/loss is 0.5000" in text


def test_the_budget_is_one_hundredth_of_the_main_figure_unless_another_is_given(first):
    assert default_budget(first.manifest) == {ACCURACY: -0.01}
    old = manifest(first, metrics={ACCURACY: 0.91})
    assert refusals("intents", bundle(first, metrics={ACCURACY: 0.9001}), old, {}) == []
    assert refusals("intents", bundle(first, metrics={ACCURACY: 0.8999}), old, {})


def test_figures_that_are_missing_are_told_and_refused_where_there_were_some(first):
    unknown = bundle(first, metrics={})
    assert refusals("intents", unknown, manifest(first, metrics={ACCURACY: 0.9}), {}) == [
        "intent/accuracy is 0.9000 in the bundle that is served, and unknown here"
    ]
    assert notes("intents", unknown, manifest(first, metrics={}), {}) == [
        "neither it nor the bundle that is served says how good it is"
    ]
    assert inspect("intents", unknown, None, {}) == []


def test_other_evaluation_data_is_told(first):
    new = bundle(first, metrics={ACCURACY: 0.9}, data={"intent/eval": "one"})
    old = manifest(first, metrics={ACCURACY: 0.9}, data={"intent/eval": "other"})
    assert notes("intents", new, old, {}) == [
        "the evaluation data of intent is not that of the bundle that is served"
    ]


def test_a_budget_on_a_figure_that_nobody_reports_is_an_error(first):
    known = [manifest(first, metrics={ACCURACY: 0.9})]
    check_budget_figures({"accuracy": -0.1, ACCURACY: -0.1}, known)
    with pytest.raises(ConfigError, match=r"names 'f1'.*there are: accuracy"):
        check_budget_figures({"f1": -0.1}, known)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"precision": "int8", "operators": {"MatMul": 12}}, "computes no product on integers"),
        ({"precision": "fp32", "batching": 0.3}, "in a batch differ"),
        ({"precision": "fp32", "batching": 0.0, "caching": 0.4}, "with a cache differ"),
        ({"precision": "int8", "speedup_over_source": 0.8}, "slower than what it was made from"),
    ],
)
def test_a_gate_that_the_record_does_not_pass_refuses(first, properties, reason):
    (text,) = refusals(
        "intents", bundle(first, properties={"made_by": "a", **properties}), None, {}
    )
    assert reason in text


def test_a_record_that_passes_its_gates_says_nothing(first):
    properties = {
        "made_by": "quantize_int8",
        "precision": "int8",
        "operators": {"MatMulIntegerToFloat": 12},
        "batching": 0.2,  # of int8, whose scales depend on a batch
        "speedup_over_source": 2.0,
    }
    assert inspect("intents", bundle(first, properties=properties), None, {}) == []
    wide = {"compress": {"parity_tolerance": 0.5}}
    fp32 = {"made_by": "export_onnx", "precision": "fp32", "batching": 0.3}
    assert inspect("intents", bundle(first, properties=fp32, recipe=wide), None, {}) == []


@pytest.fixture
def family(make_classifier, tmp_path):
    """A trained bundle and one that was made of it, side by side."""
    source = make_classifier(11, metrics={ACCURACY: 0.95})
    shutil.copytree(source.path, tmp_path / "trained")
    return Bundle.open(tmp_path / "trained"), tmp_path / "int8"


@pytest.mark.parametrize("place", ["properties", "recipe"])
def test_the_budget_of_its_own_compression_holds(family, place):
    source, path = family
    budget = {"accuracy": -0.02}
    record = {"properties": {"budget": budget}, "recipe": {"compress": {"budget": budget}}}[place]
    changes = {"parent": source.fingerprint, place: record}

    def made(accuracy: float) -> Bundle:
        update = changes | {"metrics": {ACCURACY: accuracy}}
        return Bundle(path, source.manifest.model_copy(update=update))

    assert refusals("intents", made(0.94), None, {}) == []
    (text,) = refusals("intents", made(0.92), None, {})
    assert "0.9500 in the model that it was made from" in text
    assert "accuracy -0.02" in text


def test_a_compressed_bundle_far_from_its_source_is_told(first, tmp_path):
    lonely = Bundle(
        tmp_path / "elsewhere" / "int8",
        manifest(
            first,
            parent="0" * 64,
            metrics={ACCURACY: 0.9},
            properties={"budget": {"accuracy": -0.01}},
        ),
    )
    assert notes("intents", lonely, None, {}) == [
        "the bundle that it was made from is not beside it, so its budget is not checked"
    ]
