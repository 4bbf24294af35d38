"""Layers without padding: the same numbers as with it."""

import pytest
import torch
from transformers import (
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
)

from ray_sft.models import HeadView, leave_out_padding
from ray_sft.tasks import MaskedLanguageModel
from tests.factories import TASKS, tiny_processor

ENCODERS = [kind for kind in TASKS if kind.head not in ("causal_lm", "seq2seq_lm")]


def module_of(model):
    return model.module if isinstance(model, HeadView) else model


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def batch_of(case):
    return tensors(case.task.collate(case.task.encode(case.rows, case.processor), case.processor))


def loss_and_gradients(case, batch):
    module_of(case.model).zero_grad()
    loss = case.task.loss(case.model, batch)
    loss.loss_sum.backward()
    named = module_of(case.model).named_parameters()
    return loss, {name: p.grad.clone() for name, p in named if p.grad is not None}


def seen_by_layers(model):
    """The shape of every hidden state that the first layer is given from now on."""
    layer = next(part for part in model.modules() if type(part).__name__.endswith("Layer"))
    shapes = []
    layer.register_forward_pre_hook(lambda _module, args: shapes.append(tuple(args[0].shape[:2])))
    return shapes


@pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: kind.__name__)
def test_losses_and_gradients_are_those_of_the_padded_batch(kind):
    case = TASKS[kind]()
    batch = batch_of(case)
    shapes = seen_by_layers(module_of(case.model))
    loss, expected = loss_and_gradients(case, batch)
    assert leave_out_padding(module_of(case.model))
    found_loss, found = loss_and_gradients(case, batch)
    torch.testing.assert_close(found_loss.logits, loss.logits, rtol=1e-5, atol=1e-5)
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale, msg=name)
    (padded_rows, width), (rows, tokens) = shapes
    assert rows == 1
    assert tokens < padded_rows * width


def test_a_batch_without_padding_is_read_as_before():
    case = TASKS[MaskedLanguageModel]()
    (example, *_) = case.task.encode(case.rows, case.processor)
    batch = tensors(case.task.collate([example, example], case.processor))
    expected = case.task.loss(case.model, batch).logits
    shapes = seen_by_layers(case.model)
    assert leave_out_padding(case.model)
    found = case.task.loss(case.model, batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert shapes == [(2, example.length)]


@pytest.mark.parametrize("is_rough", [False, True], ids=["fp32", "bf16"])
def test_other_families_and_precisions_too(is_rough):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tiny_processor()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids = torch.randint(5, sizes["vocab_size"], (3, 9))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 6 + [0] * 3])
    ids[mask == 0] = 1  # what RoBERTa counts positions by
    roberta = RobertaForMaskedLM(RobertaConfig(**sizes, pad_token_id=1)).eval()
    electra = ElectraForSequenceClassification(ElectraConfig(**sizes, embedding_size=16)).eval()
    for model in (roberta, electra):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_rough):
            expected = model(input_ids=ids, attention_mask=mask).logits
            assert leave_out_padding(model)
            found = model(input_ids=ids, attention_mask=mask).logits
        if found.ndim == 3:
            found, expected = found[mask.bool()], expected[mask.bool()]
        bound = 2e-2 if is_rough else 1e-5
        torch.testing.assert_close(found, expected, rtol=bound, atol=bound)


def test_dropout_is_drawn_for_tokens_alone():
    case = TASKS[MaskedLanguageModel]()
    case.model.train()
    leave_out_padding(case.model)
    torch.manual_seed(0)
    one = case.task.loss(case.model, batch_of(case)).logits
    two = case.task.loss(case.model, batch_of(case)).logits
    assert bool(torch.isfinite(one).all())
    assert not torch.equal(one, two)


def test_decoders_are_left_as_they_are():
    for kind in set(TASKS) - set(ENCODERS):
        assert not leave_out_padding(module_of(TASKS[kind]().model))
