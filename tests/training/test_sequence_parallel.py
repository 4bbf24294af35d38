"""Sequences that workers share: resumed on other numbers of workers; what cannot be is refused.

That the gradient is the same is a case of the loss law.
"""

from pathlib import Path

import pytest

from ray_sft.core import ConfigError, validate
from ray_sft.recipe import Recipe
from ray_sft.training import Train
from tests.training.worlds import records, run_world, train

SOURCE = {"source": "jsonl", "path": "rows.jsonl"}


@pytest.mark.timeout(240)
def test_a_run_goes_on_where_workers_share_no_sequences(tiny_decoder, tmp_path: Path):
    settings = {"packing": True, "steps": 6, "checkpoint_every": 3, "evaluate_every": 6}
    shared = tiny_decoder.job(sequence_parallel=2, **settings)
    alone = tiny_decoder.job(workers=1, **settings)
    run_world(train, 2, shared, tmp_path / "shared")
    run_world(train, 1, alone, tmp_path / "alone")
    run_world(train, 1, alone, tmp_path / "rest", tmp_path / "shared" / "step-3")
    steps, others, rest = (records(tmp_path / n, "step") for n in ("shared", "alone", "rest"))
    for one, other in zip(steps, others, strict=True):
        for name in ("rows", "num_targets", "num_tokens"):
            assert one[name] == other[name]
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)
    assert [r["step"] for r in rest] == [4, 5, 6]
    for one, other in zip(rest, others[3:], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    figures = [records(tmp_path / n, "evaluation")[-1]["loss"] for n in ("shared", "alone")]
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"packing": False}, "set packing: true"),
        ({"workers": 3}, "3 workers cannot be groups of 2"),
        ({"tensor_parallel": 2}, "leave tensor_parallel out"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    tree = {"sequence_parallel": 2, "packing": True} | settings
    with pytest.raises(ConfigError, match=said):
        validate(Train, tree, what="train")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": {"it": {"kind": "sequence_classification"}}}, "causal_language_model alone"),
        ({"objectives": [{"kind": "neftune"}]}, "neftune looks at whole texts"),
        ({"continual": {}}, "continual looks at whole texts"),
    ],
)
def test_what_looks_at_whole_texts_is_refused(changes, said):
    tree = {
        "name": "shared",
        "tasks": {"it": {"kind": "causal_language_model"}},
        "data": {"it": {"train": SOURCE, "eval": SOURCE}},
        "train": {"sequence_parallel": 2, "packing": True},
    } | changes
    with pytest.raises(ConfigError, match=said):
        validate(Recipe, tree, what="recipe")
