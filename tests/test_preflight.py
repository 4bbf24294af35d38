"""What is looked at before a training, on a tiny one."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification

from ray_sft.models import Lora, empty_model, load_processor
from ray_sft.preflight import preflight
from ray_sft.ready_stage import ReadyStage
from ray_sft.recipe import EarlierStage
from ray_sft.show_data import show_preflight
from ray_sft.tasks import CausalLanguageModel, SequenceClassification
from ray_sft.training import Train
from ray_sft.training.memory import estimate_memory, model_size
from tests.factories import LABELS, TASKS, TEXTS, conversation, tiny_decoder, tiny_processor
from tests.training.worlds import write_shards


def ready(folder: Path, task, rows, model, **stage) -> ReadyStage:
    model.save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    write_shards(task, folder / "model", rows, folder / "it" / "train")
    rows_of = {"source": "csv", "path": "rows.csv"}
    tree = {
        "name": "trained",
        "tasks": {"it": task},
        "data": {"it": {"train": rows_of, "eval": rows_of}},
        **stage,
    }
    place = str(folder / "model")
    return ReadyStage(EarlierStage.model_validate(tree), place, place, {"it": folder / "it"}, None)


TALK = conversation("where is my card", "it is on its way", "thanks", "you are welcome")


def test_the_replies_of_a_conversation_are_shown_as_what_is_learned(tmp_path: Path):
    found = preflight(ready(tmp_path, CausalLanguageModel(), [TALK], tiny_decoder()))
    (example,) = found.examples
    learned = [text for text, is_supervised in example.pieces if is_supervised]
    ignored = [text for text, is_supervised in example.pieces if not is_supervised]
    assert ["way" in text or "welcome" in text for text in learned] == [True, True]
    assert not any("way" in text or "welcome" in text for text in ignored)
    assert found.warnings == ()
    screen = Console(file=io.StringIO(), width=120)
    show_preflight(screen, "trained", found, zero_stage=2)
    shown = screen.file.getvalue()
    assert "memory of a worker" in shown
    assert '"zero_optimization": {"stage": 2' in " ".join(shown.split())
    assert "bold green: what is learned" in shown


def test_rows_that_are_cut_are_warned_of_and_do_not_end(tmp_path: Path):
    task = CausalLanguageModel(max_length=26)
    found = preflight(ready(tmp_path, task, [TALK] * 3, tiny_decoder()))
    assert any(
        "100% of the rows are cut at the task's max_length (26)" in w for w in found.warnings
    )
    assert any("in 3 of 3 rows the last thing to learn is no token" in w for w in found.warnings)


def test_a_text_that_begins_twice_is_warned_of(tmp_path: Path):
    case = TASKS[SequenceClassification]()
    rows = [{"text": f"<|bos|><|bos|>{text}", "label": "card"} for text in TEXTS]
    found = preflight(ready(tmp_path, case.task, rows, case.model))
    expected = "6 of 6 rows begin with two tokens for the beginning of a text"
    assert [expected in w for w in found.warnings] == [True]


def test_more_memory_than_the_machine_has_is_warned_of(tmp_path: Path):
    case = TASKS[SequenceClassification]()
    train = {"tokens_per_step": 10**9, "workers": 3}
    found = preflight(ready(tmp_path, case.task, case.rows, case.model, train=train))
    assert any("3 workers need about" in w for w in found.warnings)


def test_state_is_counted_as_torch_holds_it():
    """Stage 0 and one worker: the bytes of a real model, its gradients and AdamW's moments."""
    case = TASKS[SequenceClassification]()
    optimizer = torch.optim.AdamW(case.model.parameters())
    examples = case.task.encode(case.rows, case.processor)
    batch = case.task.collate(examples, case.processor)
    loss = case.task.loss(case.model, {k: torch.from_numpy(v) for k, v in batch.items()})
    loss.loss_sum.backward()
    optimizer.step()
    parameters = [p for p in case.model.parameters() if p.grad is not None]
    found = estimate_memory(
        model_size(case.model),
        Train(workers=1, zero_stage=0),
        longest=64,
        has_token_logits=False,
    )
    assert found.weights == sum(p.nbytes for p in case.model.parameters())
    assert found.gradients == sum(p.grad.nbytes for p in parameters)
    moments = [
        value.nbytes
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]
    assert found.optimizer == sum(moments)


@pytest.mark.parametrize(
    ("stage", "shares"), [(0, (1, 1, 8)), (1, (1, 1, 3)), (2, (1, 0.25, 3)), (3, (0.25, 0.25, 3))]
)
def test_every_stage_divides_what_it_says(stage, shares):
    """Of four workers; in multiples of the fp32 weights, moments being two of them."""
    size = model_size(TASKS[SequenceClassification]().model)
    found = estimate_memory(
        size, Train(workers=4, zero_stage=stage), longest=8, has_token_logits=False
    )
    whole = 4 * size.num_parameters
    weights, gradients, optimizer = shares
    assert found.weights == pytest.approx(whole * weights)
    assert found.gradients == pytest.approx(whole * gradients)
    assert found.optimizer == pytest.approx(whole * optimizer / 4)


def test_workers_that_share_layers_hold_a_part_of_them_each():
    size = model_size(TASKS[SequenceClassification]().model)
    alone, shared = (
        estimate_memory(
            size,
            Train(workers=2, tensor_parallel=parts, zero_stage=0),
            longest=8,
            has_token_logits=False,
        )
        for parts in (1, 2)
    )
    embeddings = 4 * size.vocab_size * size.hidden_size
    assert shared.weights == shared.gradients == (alone.weights + embeddings) // 2


def test_what_is_held_in_four_bits_takes_an_eighth():
    model, adapter = tiny_decoder(), Lora(rank=2, four_bit=True)
    num_packed, whole = adapter.num_packed(model), model_size(model).num_parameters
    adapter.inject(model, {"it": CausalLanguageModel()}, tiny_processor())
    held = sum(p.nbytes for p in model.parameters())
    size = model_size(model, num_packed=num_packed).model_copy(update={"num_parameters": whole})
    found = estimate_memory(size, Train(workers=2, zero_stage=0), longest=8, has_token_logits=True)
    added = 4 * (sum(p.numel() for p in model.parameters()) - (whole - num_packed))
    assert found.weights == pytest.approx(held - added + num_packed * 4.127 / 8, rel=1e-3)


def test_an_empty_model_has_the_shapes_of_a_loaded_one(tmp_path: Path):
    case = TASKS[SequenceClassification]()
    case.model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    empty = empty_model(str(tmp_path), {"it": case.task})
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in loaded.named_parameters()
    }
    Lora(rank=2).inject(empty, {"it": case.task}, tiny_processor())
    size = model_size(empty)
    assert 0 < size.num_trained < size.num_parameters / 2
    assert load_processor(tmp_path).pad_token_id is not None
    assert len(case.task.labels) == len(LABELS)
