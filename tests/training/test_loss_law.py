"""The gradient of a step does not depend on how it is cut, under any ZeRO stage."""

from pathlib import Path

import pytest
import torch

from ray_sft.data import SampleStore
from ray_sft.models import load_model, load_processor
from tests.training.worlds import gradients, run_world

UNEVEN = [0, 3, 4, 9, 11, 12, 20]
LONELY = [5]
"""One row on two ranks with two micro-batches each: three of the four have nothing to do."""


def plain_gradient(run, samples):
    """One padded batch in plain PyTorch: the mean over all targets."""
    processor = load_processor(run.model)
    model = load_model(str(run.model), run.task, processor=processor)
    examples = SampleStore(run.data / "train").examples(samples)
    batch = run.task.collate(examples, processor)
    loss = run.task.loss(model, {k: torch.from_numpy(v) for k, v in batch.items()})
    (loss.loss_sum / loss.num_targets).backward()
    trained = (pair for pair in model.named_parameters() if pair[1].requires_grad)
    return {name: parameter.grad for name, parameter in trained}


def cases_of(runs, settings, *, stages=(0, 1, 2, 3), **more):
    """Jobs that take one step of plain gradient descent, and its samples."""
    cases = {}
    for stage in stages:
        for kind, run in runs.items():
            packs = kind == "decoder" and not more.get("packing")
            chosen = [*settings, {"packing": True}] if packs else settings
            for number, setting in enumerate(chosen):
                job = run.job(
                    zero_stage=stage,
                    gradient_accumulation=2,
                    max_gradient_norm=0.0,
                    weight_decay=0.0,
                    learning_rate=1.0,
                    warmup=0.0,
                    **(setting | more),
                )
                for name, samples in (("uneven", UNEVEN), ("lonely", LONELY)):
                    cases[f"{kind}-{name}-zero{stage}-{number}"] = (job, samples)
    return cases


def check_gradients(runs, cases, folder: Path):
    """What each case left in ``folder`` equals the gradient of one plain batch."""
    expected = {
        (kind, name): plain_gradient(run, samples)
        for kind, run in runs.items()
        for name, samples in (("uneven", UNEVEN), ("lonely", LONELY))
    }
    for case in cases:
        kind, name, *_ = case.split("-")
        found = torch.load(folder / f"{case}.pt")
        assert found.keys() >= expected[kind, name].keys()  # shared weights have several names
        for parameter, gradient in expected[kind, name].items():
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case}: {parameter} differs by {error:.1e}"


@pytest.mark.timeout(240)
def test_the_gradient_equals_that_of_one_plain_batch(
    tiny_decoder, tiny_encoder, tiny_translator, tmp_path: Path
):
    runs = {"decoder": tiny_decoder, "encoder": tiny_encoder, "translator": tiny_translator}
    cases = cases_of(runs, [{}, {"activation_checkpointing": True}])
    run_world(gradients, 2, cases, tmp_path)
    check_gradients(runs, cases, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compiled_layers_give_the_same_gradient(tiny_decoder, tiny_encoder, tmp_path: Path):
    runs = {"decoder": tiny_decoder, "encoder": tiny_encoder}
    cases = cases_of(runs, [{}, {"activation_checkpointing": True}], compile=True)
    run_world(gradients, 2, cases, tmp_path)
    check_gradients(runs, cases, tmp_path)


@pytest.mark.timeout(240)
def test_offloaded_state_gives_the_same_gradient(tiny_decoder, tmp_path: Path):
    """Where all memory is the machine's, so only the order of things differs."""
    runs = {"decoder": tiny_decoder}
    cases = cases_of(runs, [{}], stages=(1, 2, 3), offload="optimizer")
    more = cases_of(runs, [{}], stages=(3,), offload="all")
    cases |= {f"{name}-all": case for name, case in more.items()}
    run_world(gradients, 2, cases, tmp_path)
    check_gradients(runs, cases, tmp_path)


@pytest.mark.timeout(240)
def test_layers_that_workers_share_give_the_same_gradient(
    tiny_decoder, tiny_encoder, tiny_translator, tmp_path: Path
):
    """Two replicas of two workers each."""
    runs = {"decoder": tiny_decoder, "encoder": tiny_encoder, "translator": tiny_translator}
    cases = cases_of(runs, [{}], workers=4, tensor_parallel=2)
    run_world(gradients, 4, cases, tmp_path)
    check_gradients(runs, cases, tmp_path)


@pytest.mark.timeout(240)
def test_sequences_that_workers_share_give_the_same_gradient(tiny_decoder, tmp_path: Path):
    """Two replicas of two workers each, and four workers with two heads of keys and values."""
    runs = {"decoder": tiny_decoder}
    more = {"workers": 4, "packing": True}
    settings = [{}, {"activation_checkpointing": True}]
    cases = cases_of(runs, settings, sequence_parallel=2, **more)
    four = cases_of(runs, [{}], stages=(2,), sequence_parallel=4, **more)
    cases |= {f"{name}-four": case for name, case in four.items()}
    run_world(gradients, 4, cases, tmp_path)
    check_gradients(runs, cases, tmp_path)


@pytest.mark.gpu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("setting", ["compile", "activation_checkpointing"])
@pytest.mark.parametrize("on", [False, True])
def test_a_gpu_gives_the_same_gradient(tiny_decoder, tiny_encoder, tmp_path: Path, setting, on):
    runs = {"decoder": tiny_decoder, "encoder": tiny_encoder}
    cases = cases_of(runs, [{}], device="cuda", **{setting: on})
    if setting == "activation_checkpointing":
        cases |= cases_of(runs, [{}], stages=(3,), device="cuda", offload="all", **{setting: on})
    run_world(gradients, 1, cases, tmp_path, device="cuda")
    check_gradients(runs, cases, tmp_path)
