"""What an adapter has learned under ZeRO is in the weights that are saved."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ray_sft.data import SampleStore
from ray_sft.evaluation import evaluate
from ray_sft.inference import TorchRunner
from ray_sft.models import Lora, load_model, load_processor
from tests.factories import ADAPTERS
from tests.training.worlds import make_loop, records, run_world, train_twice

TABLE = "bert.embeddings.word_embeddings.weight"


def train_all(rank, jobs, out_dir):
    """Runs jobs one after another in the same processes."""
    del rank
    for name, job in jobs.items():
        loop = make_loop(job, out_dir / name)
        loop.run()
        loop.engine._engine.destroy()


@pytest.mark.timeout(300)
def test_saved_weights_are_the_models_own_and_answer_as_the_trained_ones(
    tiny_encoder, tmp_path: Path
):
    """Adapters saved empty are the classic fault of partitioned parameters."""
    processor = load_processor(tiny_encoder.model)
    examples = SampleStore(tiny_encoder.data / "eval").all()
    ids = sorted({int(number) for number in examples[0].arrays["input_ids"]})[:2]
    adapters = {make().kind: make() for make in ADAPTERS.values()}
    del adapters["prompt_tuning"]  # trains rows, as those of "tokens" are: tests/e2e has it whole
    adapters["tokens"] = Lora(rank=2, tokens=tuple(processor.convert_ids_to_tokens(ids)))
    adapters["four_bit"] = Lora(rank=2, four_bit=True)
    jobs = {
        f"{kind}-{stage}": replace(
            tiny_encoder.job(zero_stage=stage, steps=6, learning_rate=2e-2, weight_decay=0.0),
            adapter=adapter,
        )
        for kind, adapter in adapters.items()
        for stage in (2, 3)
    }
    run_world(train_all, 2, jobs, tmp_path)
    before = load_file(tiny_encoder.model / "model.safetensors")
    for name in jobs:
        folder = tmp_path / name / "step-6" / "weights"
        after = load_file(folder / "model.safetensors")
        assert after.keys() == before.keys(), name
        began = records(tmp_path / name, "start")[0]
        assert began["num_parameters"] == sum(tensor.numel() for tensor in before.values())
        assert 0 < began["num_trained"] < began["num_parameters"]
        changed = {key for key in before if not after[key].equal(before[key])}
        assert any("encoder.layer" in key for key in changed), name
        rows = {
            key: (after[key] != before[key]).any(dim=1).nonzero().flatten().tolist()
            for key in changed
            if "embeddings" in key
        }
        assert rows == ({TABLE: ids} if name.startswith("tokens") else {}), name
        model = load_model(str(folder), tiny_encoder.task, processor=processor)
        figures = evaluate(tiny_encoder.task, TorchRunner(model), processor, examples)
        last = records(tmp_path / name, "evaluation")[-1]
        assert figures["loss"] == pytest.approx(last["loss"], abs=1e-4), name


@pytest.mark.timeout(120)
def test_a_resumed_run_finds_its_packed_weights_where_no_checkpoint_holds_them(
    tiny_encoder, tmp_path: Path
):
    job = tiny_encoder.job(steps=6, checkpoint_every=3, learning_rate=2e-2, precision="bf16")
    run_world(train_twice, 2, replace(job, adapter=Lora(rank=2, four_bit=True)), tmp_path)
    whole, rest = (records(tmp_path / name, "step") for name in ("whole", "rest"))
    assert [r["loss"] for r in rest] == [r["loss"] for r in whole[3:]]
    names = load_file(tmp_path / "whole" / "step-6" / "weights" / "model.safetensors")
    assert names.keys() == load_file(tiny_encoder.model / "model.safetensors").keys()
    (states,) = (tmp_path / "whole" / "step-3").glob("**/mp_rank_00_model_states.pt")
    held = torch.load(states, weights_only=False)["module"]
    assert not [name for name in held if name.endswith("base_layer.weight")]
