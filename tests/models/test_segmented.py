"""Packed rows through segmented attention: the same numbers as one sequence at a time."""

import pytest
import torch
from transformers import AttentionInterface, MistralConfig, MistralForCausalLM

from ray_sft.core import ConfigError
from ray_sft.models import use_segmented_attention
from ray_sft.tasks import CausalLanguageModel
from tests.factories import TEXTS, conversation, tiny_decoder, tiny_processor


def examples(task):
    rows = [conversation(TEXTS[i], TEXTS[i + 1]) for i in range(5)]
    return task.encode(rows, tiny_processor())


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def gradients(model, task, batches):
    model.zero_grad()
    for batch in batches:
        task.loss(model, tensors(batch)).loss_sum.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_losses_and_gradients_equal_those_of_single_sequences():
    task, processor, model = CausalLanguageModel(), tiny_processor(), tiny_decoder()
    encoded = examples(task)
    singles = [task.collate([example], processor) for example in encoded]
    expected = gradients(model, task, singles)
    loss_sum = sum(task.loss(model, tensors(batch)).loss_sum.item() for batch in singles)
    use_segmented_attention(model)
    packed = task.pack([encoded[:3], encoded[3:]], processor)
    assert task.loss(model, tensors(packed)).loss_sum.item() == pytest.approx(loss_sum, abs=1e-3)
    found = gradients(model, task, [packed])
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-4, rtol=1e-4), name


def test_padded_batches_are_read_as_before():
    task, processor, model = CausalLanguageModel(), tiny_processor(), tiny_decoder()
    batch = tensors(task.collate(examples(task), processor))
    expected = task.loss(model, batch).logits
    use_segmented_attention(model)
    found = task.loss(model, batch).logits
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_sliding_window_stays_within_its_sequence():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny_processor()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
    )
    task, processor = CausalLanguageModel(), tiny_processor()
    model = MistralForCausalLM(config).eval()
    encoded = examples(task)
    loss_sum = sum(
        task.loss(model, tensors(task.collate([example], processor))).loss_sum.item()
        for example in encoded
    )
    use_segmented_attention(model)
    packed = tensors(task.pack([encoded], processor))
    assert task.loss(model, packed).loss_sum.item() == pytest.approx(loss_sum, abs=1e-2)


def test_a_row_without_positions_is_refused():
    model = tiny_decoder()
    use_segmented_attention(model)
    attention = model.model.layers[0].self_attn
    query = torch.zeros(1, 4, 3, 16)
    with pytest.raises(ConfigError, match="does not tell where packed sequences begin"):
        AttentionInterface()["segmented"](attention, query, query, query, None)
