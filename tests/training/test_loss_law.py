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


@pytest.mark.timeout(240)
def test_the_gradient_equals_that_of_one_plain_batch(
    tiny_decoder, tiny_encoder, tiny_translator, tmp_path: Path
):
    runs = {"decoder": tiny_decoder, "encoder": tiny_encoder, "translator": tiny_translator}
    expected = {
        (kind, name): plain_gradient(run, samples)
        for kind, run in runs.items()
        for name, samples in (("uneven", UNEVEN), ("lonely", LONELY))
    }
    cases = {}
    for stage in (0, 1, 2, 3):
        for kind, run in runs.items():
            settings = [{}, {"activation_checkpointing": True}]
            settings += [{"packing": True}] if kind == "decoder" else []
            for number, setting in enumerate(settings):
                job = run.job(
                    zero_stage=stage,
                    gradient_accumulation=2,
                    max_gradient_norm=0.0,
                    weight_decay=0.0,
                    learning_rate=1.0,
                    warmup=0.0,
                    **setting,
                )
                for name, samples in (("uneven", UNEVEN), ("lonely", LONELY)):
                    cases[f"{kind}-{name}-zero{stage}-{number}"] = (job, samples)
    run_world(gradients, 2, cases, tmp_path)
    for case in cases:
        kind, name, *_ = case.split("-")
        found = torch.load(tmp_path / f"{case}.pt")
        assert found.keys() >= expected[kind, name].keys()  # shared weights have several names
        for parameter, gradient in expected[kind, name].items():
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case}: {parameter} differs by {error:.1e}"
