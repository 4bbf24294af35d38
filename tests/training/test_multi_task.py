"""Several tasks on one model, each by its own targets; adapters that come out whole."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ray_sft.data import Mixture, SampleStore
from ray_sft.models import HeadView, Lora, load_processor, load_tasks
from ray_sft.training import Train
from ray_sft.training.job import Job
from tests.training.conftest import TWO_TASKS as TASKS
from tests.training.worlds import gradients, records, run_world, train

UNEVEN = [0, 3, 4, 9, 11, 25, 27, 30]
"""Ids below 23 are of the first task, the others of the second."""
LONELY = [26]
WEIGHTS = {"when": 1.0, "what": 0.25}


def job(folder: Path, *, adapter: Lora | None = None, **settings) -> Job:
    defaults = {"precision": "fp32", "epochs": 2, "tokens_per_step": 60, "device": "cpu"}
    options = defaults | {"task_weights": WEIGHTS} | settings
    data = {name: str(folder / name) for name in TASKS}
    model = str(folder / "model")
    return Job(TASKS, Train(**options), model, model, data, 1, None, adapter=adapter)


def plain_gradient(folder: Path, samples):
    """One padded batch per task in plain PyTorch: the weighted sum of the mean losses."""
    processor = load_processor(folder / "model")
    model = load_tasks(str(folder / "model"), TASKS, processor=processor)
    mixture = Mixture({name: SampleStore(folder / name / "train") for name in TASKS})
    for name, ids in mixture.by_task(torch.tensor(samples).numpy()).items():
        task = TASKS[name]
        batch = task.collate(mixture.examples(ids), processor)
        tensors = {key: torch.from_numpy(array) for key, array in batch.items()}
        loss = task.loss(HeadView(model, name), tensors)
        (WEIGHTS[name] * loss.loss_sum / loss.num_targets).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.timeout(240)
def test_the_gradient_is_the_weighted_sum_of_the_tasks_own_means(headed, tmp_path: Path):
    cases = {}
    for stage in (0, 1, 2, 3):
        settings = {
            "zero_stage": stage,
            "gradient_accumulation": 2,
            "max_gradient_norm": 0.0,
            "weight_decay": 0.0,
            "learning_rate": 1.0,
            "warmup": 0.0,
        }
        for name, samples in (("uneven", UNEVEN), ("lonely", LONELY)):
            cases[f"{name}-zero{stage}"] = (job(headed, **settings), samples)
    run_world(gradients, 2, cases, tmp_path)
    expected = {
        name: plain_gradient(headed, samples)
        for name, samples in (("uneven", UNEVEN), ("lonely", LONELY))
    }
    for case in cases:
        found = torch.load(tmp_path / f"{case}.pt")
        for parameter, gradient in expected[case.split("-")[0]].items():
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case}: {parameter} differs by {error:.1e}"


@pytest.mark.timeout(240)
def test_a_run_of_both_learns_both_and_reports_each(headed, tmp_path: Path):
    run_world(train, 2, job(headed, learning_rate=3e-3, epochs=8), tmp_path)
    steps = records(tmp_path, "step")
    for record in steps:
        assert 0 <= record["padding"] < 1
        assert 0 < record["data_wait_s"] < record["num_tokens"] / record["tokens_per_s"]
    for name in TASKS:
        assert steps[-1][f"loss/{name}"] < steps[0][f"loss/{name}"]
    one = steps[0]
    weighted = sum(WEIGHTS[name] * one[f"loss/{name}"] for name in TASKS)
    assert one["loss"] == pytest.approx(weighted)
    last = records(tmp_path, "evaluation")[-1]
    assert last["when/num_rows"] == last["what/num_rows"] == 7
    model = load_tasks(
        str(tmp_path / f"step-{steps[-1]['step']}" / "weights"),
        TASKS,
        processor=load_processor(headed / "model"),
    )
    assert set(model.heads) == set(TASKS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stage", [2, 3])
def test_an_adapter_is_merged_into_weights_that_load_plainly(tiny_encoder, tmp_path, stage):
    plain = tiny_encoder.job(zero_stage=stage, learning_rate=1e-2, weight_decay=0.0, epochs=12)
    adapted = Job(
        plain.tasks,
        plain.train,
        plain.model,
        plain.processor,
        plain.data_dirs,
        1,
        None,
        adapter=Lora(rank=2),
    )
    run_world(train, 2, adapted, tmp_path)
    steps = records(tmp_path, "step")
    losses = [step["loss"] for step in steps]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    folder = tmp_path / f"step-{steps[-1]['step']}" / "weights"
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    before = AutoModelForSequenceClassification.from_pretrained(plain.model).state_dict()
    moved = {name for name, tensor in model.state_dict().items() if (tensor != before[name]).any()}
    assert "bert.encoder.layer.1.attention.self.query.weight" in moved
    assert "classifier.weight" in moved
    assert "bert.embeddings.word_embeddings.weight" not in moved
    figures = records(tmp_path, "evaluation")[-1]
    (task,) = plain.tasks.values()
    processor = load_processor(plain.model)
    examples = SampleStore(Path(plain.data_dirs["it"]) / "eval").all()
    batch = task.collate(examples, processor)
    with torch.no_grad():
        loss = task.loss(model.eval(), {k: torch.from_numpy(v) for k, v in batch.items()})
    assert loss.loss_sum.item() / 7 == pytest.approx(figures["loss"], abs=1e-4)
