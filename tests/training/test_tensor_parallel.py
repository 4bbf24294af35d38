"""Layers that workers share: saved whole, resumed, measured once; what cannot be shared is refused.

That the gradient is the same is a case of the loss law.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ray_sft.core import ConfigError, validate
from ray_sft.data import SampleStore
from ray_sft.evaluation import evaluate
from ray_sft.inference import TorchRunner
from ray_sft.models import load_model, load_processor
from ray_sft.objectives import FreeLb, Neftune
from ray_sft.training import Train
from tests.training.worlds import records, run_world, train, train_twice


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stage", [2, 3])
def test_a_resumed_run_ends_in_whole_weights_that_answer_as_the_trained_ones(
    tiny_decoder, tmp_path: Path, stage
):
    job = tiny_decoder.job(
        zero_stage=stage,
        tensor_parallel=2,
        packing=True,
        keep="best",
        steps=6,
        checkpoint_every=3,
        evaluate_every=2,
        learning_rate=3e-3,
    )
    run_world(train_twice, 2, replace(job, objectives=(Neftune(), FreeLb())), tmp_path)
    for event in ("step", "evaluation"):
        whole, rest = (records(tmp_path / name, event) for name in ("whole", "rest"))
        late = [record["loss"] for record in whole if record["step"] > 3]
        assert [record["loss"] for record in rest] == late
    assert rest[-1]["num_rows"] == 7, "every row is counted once"

    folder = tmp_path / "whole" / "step-6" / "weights"
    found = load_file(folder / "model.safetensors")
    before = load_file(tiny_decoder.model / "model.safetensors")
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in before.items()}
    processor = load_processor(tiny_decoder.model)
    model = load_model(str(folder), tiny_decoder.task, processor=processor)
    examples = SampleStore(tiny_decoder.data / "eval").all()
    figures = evaluate(tiny_decoder.task, TorchRunner(model), processor, examples)
    best = min(record["loss"] for record in records(tmp_path / "whole", "evaluation"))
    assert figures["loss"] == pytest.approx(best, abs=1e-4)


@pytest.mark.timeout(120)
def test_a_checkpoint_of_shared_layers_is_refused_by_another_number_of_workers(
    tiny_encoder, tmp_path: Path
):
    job = tiny_encoder.job(tensor_parallel=2, steps=2, zero_stage=1)
    run_world(train, 2, job, tmp_path / "two")
    alone = tiny_encoder.job(workers=1, steps=3, zero_stage=1)
    with pytest.raises(Exception, match=r"written by 2 workers of which 2 share each layer.*: 2"):
        run_world(train, 1, alone, tmp_path / "one", tmp_path / "two" / "step-2")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 3}, "3 workers cannot be groups of 2"),
        ({"compile": True}, "leave compile and offload out"),
        ({"offload": "optimizer"}, "leave compile and offload out"),
        ({"balance": {"kind": "grad_norm"}}, "GradNorm"),
    ],
)
def test_what_needs_whole_layers_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        validate(Train, {"tensor_parallel": 2} | settings, what="train")
