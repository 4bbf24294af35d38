"""A run that goes on from a checkpoint does what the unbroken run did."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.training.worlds import records, run_world, train


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("stage", "offload"), [(2, "none"), (3, "none"), (3, "all")])
def test_resumed_losses_and_weights_equal_the_unbroken_run(
    tiny_decoder, tmp_path: Path, stage, offload
):
    job = tiny_decoder.job(
        zero_stage=stage,
        offload=offload,
        packing=True,
        gradient_accumulation=2,
        checkpoint_every=4,
        evaluate_every=5,
        learning_rate=3e-3,
        warmup=0.2,
        schedule="cosine",
    )
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    run_world(train, 2, job, whole)
    run_world(train, 2, job, rest, whole / "step-4")
    losses = {r["step"]: (r["loss"], r["gradient_norm"]) for r in records(whole, "step")}
    again = {r["step"]: (r["loss"], r["gradient_norm"]) for r in records(rest, "step")}
    assert min(again) == 5
    assert again == {step: figures for step, figures in losses.items() if step > 4}
    last = max(losses)
    one = load_file(whole / f"step-{last}" / "weights" / "model.safetensors")
    other = load_file(rest / f"step-{last}" / "weights" / "model.safetensors")
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert all(tensor.numel() > 0 for tensor in one.values())


@pytest.mark.timeout(120)
def test_more_steps_than_the_epochs_have_begin_further_epochs(tiny_encoder, tmp_path: Path):
    run_world(train, 1, tiny_encoder.job(workers=1, epochs=1), tmp_path / "epoch")
    num_steps = len(records(tmp_path / "epoch", "step"))
    job = tiny_encoder.job(workers=1, epochs=1, steps=2 * num_steps + 1)
    run_world(train, 1, job, tmp_path / "steps")
    found = records(tmp_path / "steps", "step")
    assert [record["step"] for record in found] == list(range(1, 2 * num_steps + 2))
    evaluated = [record["step"] for record in records(tmp_path / "steps", "evaluation")]
    assert evaluated == [num_steps, 2 * num_steps, 2 * num_steps + 1]


@pytest.mark.timeout(240)
def test_figures_do_not_depend_on_the_number_of_workers(tiny_encoder, tmp_path: Path):
    """Losses, learning and evaluation of one and of two workers agree; weights load plainly."""
    for world_size in (1, 2):
        job = tiny_encoder.job(zero_stage=1, workers=world_size, learning_rate=1e-3)
        run_world(train, world_size, job, tmp_path / str(world_size))
    one, two = (records(tmp_path / str(n), "step") for n in (1, 2))
    assert len(one) == len(two) >= 8
    for a, b in zip(one, two, strict=True):
        assert a["num_targets"] == b["num_targets"]
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-5)
    assert one[-1]["loss"] < one[0]["loss"]
    first, second = (records(tmp_path / str(n), "evaluation")[-1] for n in (1, 2))
    assert first["num_rows"] == second["num_rows"] == 7
    assert first["loss"] == pytest.approx(second["loss"], abs=2e-4)


def test_the_weights_load_in_plain_transformers(tiny_decoder, tmp_path: Path):
    job = tiny_decoder.job(zero_stage=3, steps=2)
    run_world(train, 2, job, tmp_path)
    model, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "step-2" / "weights", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.num_hidden_layers == 2


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("stage", "sizes"),
    [
        pytest.param(0, (3,), marks=pytest.mark.slow),
        pytest.param(1, (1,), marks=pytest.mark.slow),
        (2, (1, 3)),
        (3, (1, 3)),
    ],
)
def test_a_run_goes_on_with_another_number_of_workers(tiny_encoder, tmp_path, stage, sizes):
    """Saved by two ranks: one and three go on with the same rows, losses and weights."""
    settings = {"zero_stage": stage, "checkpoint_every": 4, "learning_rate": 3e-3}
    whole = tmp_path / "whole"
    run_world(train, 2, tiny_encoder.job(**settings), whole)
    expected = {r["step"]: r for r in records(whole, "step")}
    last = max(expected)
    weights = load_file(whole / f"step-{last}" / "weights" / "model.safetensors")
    for world_size in sizes:
        out_dir = tmp_path / str(world_size)
        job = tiny_encoder.job(**settings, workers=world_size)
        run_world(train, world_size, job, out_dir, whole / "step-4")
        found = records(out_dir, "step")
        assert [r["step"] for r in found] == list(range(5, last + 1))
        for record in found:
            one = expected[record["step"]]
            assert record["num_tokens"] == one["num_tokens"]
            assert record["loss"] == pytest.approx(one["loss"], abs=1e-4)
        other = load_file(out_dir / f"step-{last}" / "weights" / "model.safetensors")
        for name, tensor in weights.items():
            error = (tensor - other[name]).abs().max().item()
            assert error < 1e-3, f"{world_size} ranks: {name} differs by {error:.1e}"
