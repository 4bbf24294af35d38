"""Adapters train little, change nothing else, and vanish into the model at the end."""

import pytest
import torch

from ray_sft.models import Lora
from ray_sft.tasks import CausalLanguageModel, SequenceClassification
from tests.factories import LABELS, tiny_decoder, tiny_encoder, tiny_headed, tiny_processor

CLASSIFY = {"intent": SequenceClassification(labels=LABELS, max_length=64)}
COMPLETE = {"reply": CausalLanguageModel(max_length=64)}
SEVERAL = CLASSIFY | {"topic": SequenceClassification(labels=("a", "b"), max_length=64)}

CASES = {
    "classifier": (lambda: tiny_encoder(len(LABELS)), CLASSIFY, {"classifier"}),
    "several heads": (lambda: tiny_headed(SEVERAL), SEVERAL, {"heads"}),
    "decoder": (tiny_decoder, COMPLETE, set()),
}


@pytest.fixture(params=CASES)
def case(request):
    make, tasks, heads = CASES[request.param]
    return make(), tasks, heads


def inputs():
    ids = torch.arange(5, 5 + 14).view(2, 7) % len(tiny_processor())
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def output(model):
    found = model(**inputs())
    return found["intent" if "intent" in found else "logits"]


def test_only_adapters_and_new_heads_are_trained(case):
    model, tasks, heads = case
    before = {name: p.clone() for name, p in model.named_parameters()}
    Lora(rank=4).inject(model, tasks)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert {name.split(".")[0] for name in trained if "lora_" not in name} == heads
    for name, parameter in before.items():
        found = dict(model.named_parameters())
        kept = found.get(name, found.get(name.replace(".weight", ".base_layer.weight")))
        kept = kept if kept is not None else found[name.replace(".bias", ".base_layer.bias")]
        torch.testing.assert_close(kept, parameter)


def test_an_untrained_adapter_changes_nothing(case):
    model, tasks, _ = case
    with torch.no_grad():
        expected = output(model)
        Lora().inject(model, tasks)
        torch.testing.assert_close(output(model), expected)


def test_merged_weights_answer_as_the_adapted_model(case):
    model, tasks, _ = case
    keys = set(model.state_dict())
    tuner = Lora(rank=4, alpha=8).inject(model, tasks)
    torch.manual_seed(0)
    with torch.no_grad():
        plain = output(model)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        adapted = output(model)
        merged = tuner.merge_and_unload()
        assert not torch.allclose(adapted, plain, atol=1e-2)
        torch.testing.assert_close(output(merged), adapted, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == keys
