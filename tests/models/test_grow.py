"""A model with room for new labels answers like the former one where both can."""

from pathlib import Path

import pytest
import torch

from ray_sft.models import load_tasks, model_config, save_grown, uses_heads
from ray_sft.tasks import SequenceClassification, TokenClassification
from tests.factories import TASKS, MultiLabelClassification, tiny_encoder_config
from tests.objectives.zero_world import tensors

NEW = ("billing", "delivery")


def grown_task(task):
    return task.model_copy(update={"labels": (*task.labels, *NEW)})


def logits(folder, task, case):
    model = load_tasks(str(folder), {"it": task}, processor=case.processor)
    examples = case.task.encode(case.rows, case.processor)
    batch = tensors(case.task.collate(examples, case.processor))
    given = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return model.eval()(**given).logits


@pytest.mark.parametrize(
    "kind", [SequenceClassification, MultiLabelClassification, TokenClassification]
)
def test_known_labels_keep_their_logits_and_new_ones_have_some(kind, tmp_path: Path):
    case = TASKS[kind]()
    case.model.save_pretrained(tmp_path / "former")
    former, tasks = {"it": case.task}, {"it": grown_task(case.task)}
    save_grown(
        str(tmp_path / "former"),
        former,
        tasks,
        tmp_path / "grown",
        processor=case.processor,
        seed=0,
    )
    before = logits(tmp_path / "former", case.task, case)
    after = logits(tmp_path / "grown", tasks["it"], case)
    num_known = before.shape[-1]
    assert after.shape[-1] == tasks["it"].model_options()["num_labels"] > num_known
    torch.testing.assert_close(after[..., :num_known], before)
    assert after[..., num_known:].std() > 0
    assert model_config(str(tmp_path / "grown")).id2label == tasks["it"].model_options()["id2label"]


def test_heads_on_one_backbone_grow_alone(tmp_path: Path):
    case = TASKS[SequenceClassification]()
    former = {"topic": case.task, "mood": SequenceClassification(labels=("bad", "good"))}
    assert uses_heads(former)
    backbone = type(case.model.base_model)(tiny_encoder_config(2))
    backbone.save_pretrained(tmp_path / "start")
    model = load_tasks(str(tmp_path / "start"), former, processor=case.processor)
    model.save_pretrained(tmp_path / "former")
    tasks = former | {"mood": grown_task(former["mood"])}
    save_grown(
        str(tmp_path / "former"),
        former,
        tasks,
        tmp_path / "grown",
        processor=case.processor,
        seed=0,
    )
    grown = load_tasks(str(tmp_path / "grown"), tasks, processor=case.processor)
    before, after = model.state_dict(), grown.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        size = len(value) if value.ndim else None
        torch.testing.assert_close(after[name][:size] if size else after[name], value)
    assert after["heads.mood.linear.weight"].shape[0] == 4
    assert after["heads.topic.linear.weight"].shape == before["heads.topic.linear.weight"].shape


def test_the_new_rows_depend_on_the_seed_alone(tmp_path: Path):
    case = TASKS[SequenceClassification]()
    case.model.save_pretrained(tmp_path / "former")
    found = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + number)
        folder = tmp_path / str(number)
        tasks = {"it": grown_task(case.task)}
        save_grown(
            str(tmp_path / "former"),
            {"it": case.task},
            tasks,
            folder,
            processor=case.processor,
            seed=seed,
        )
        found.append(load_tasks(str(folder), tasks, processor=case.processor).classifier.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
