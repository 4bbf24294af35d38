import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ray_sft.compression import PassContext, PruneFeedForward
from ray_sft.compression.importance import importances
from ray_sft.compression.prune_feed_forward import _blocks
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from ray_sft.models import load_tasks
from tests.compression.conftest import LABELS, TEXTS, apply

IDS = torch.arange(6, 22)[None]
IDLE = torch.randperm(128, generator=torch.Generator().manual_seed(3))[:64]


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def without_use(model):
    """Half of the neurons of each layer, a different half each time, are read by nothing."""
    with torch.no_grad():
        for number, layer in enumerate(model.bert.encoder.layer):
            layer.output.dense.weight[:, (IDLE + number) % 128] = 0.0


def test_idle_neurons_of_an_encoder_go_and_are_not_missed(make_encoder, intents, tmp_path):
    source = make_encoder(edit=without_use)
    step = PruneFeedForward(ratio=0.5)
    bundle, properties = apply(step, source, tmp_path / "small", PassContext(intents))
    assert properties["intermediate_size"] == 64
    assert properties["kept_importance"] == pytest.approx(1.0)
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    assert model.config.intermediate_size == 64
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == (64, 64)
    full = AutoModelForSequenceClassification.from_pretrained(source.model_dir)
    torch.testing.assert_close(logits(model), logits(full), rtol=0, atol=1e-5)
    assert bundle.num_bytes < source.num_bytes


def test_idle_neurons_of_a_gated_decoder_go_and_are_not_missed(make_decoder, own_words, tmp_path):
    source = make_decoder()
    full = AutoModelForCausalLM.from_pretrained(source.model_dir)
    with torch.no_grad():
        for layer in full.model.layers:
            layer.mlp.down_proj.weight[:, IDLE] = 0.0
    full.save_pretrained(source.model_dir)
    step = PruneFeedForward(intermediate_size=64)
    bundle, _ = apply(step, source, tmp_path / "small", PassContext(own_words))
    model = AutoModelForCausalLM.from_pretrained(bundle.model_dir)
    assert model.model.layers[1].mlp.gate_proj.weight.shape == (64, 64)
    assert model.model.layers[1].mlp.up_proj.weight.shape == (64, 64)
    torch.testing.assert_close(logits(model), logits(full), rtol=0, atol=1e-5)


def test_importance_is_the_mean_over_examples_of_the_gradient_of_a_gate(
    classifier, intents, processor
):
    tasks = classifier.manifest.tasks
    model = load_tasks(str(classifier.model_dir), tasks, processor=processor).eval()
    readers = [block.down for block in _blocks(model)]
    found = importances(model, readers, tasks, intents, processor, sizes=[1, 1])
    expected = [torch.zeros(128) for _ in found]
    for example in intents["intent"]:
        gates = [torch.ones(128, requires_grad=True) for _ in found]
        hooks = [
            layer.output.dense.register_forward_pre_hook(
                lambda _module, inputs, gate=gate: (inputs[0] * gate,)
            )
            for layer, gate in zip(model.bert.encoder.layer, gates, strict=True)
        ]
        batch = classifier.task.collate([example], processor)
        loss = classifier.task.loss(model, {k: torch.from_numpy(v) for k, v in batch.items()})
        loss.loss_sum.backward()
        for hook in hooks:
            hook.remove()
        for total, gate in zip(expected, gates, strict=True):
            total += gate.grad.abs() / len(intents["intent"])
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


def test_several_heads_are_weighed_together(two_heads, processor, tmp_path):
    rows = {
        "intent": [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(TEXTS)],
        "vector": [
            {"text": one, "positive": two, "negatives": [TEXTS[0]]}
            for one, two in zip(TEXTS[1:5], TEXTS[5:9], strict=True)
        ],
    }
    examples = {
        name: task.encode(rows[name], processor) for name, task in two_heads.manifest.tasks.items()
    }
    step = PruneFeedForward(ratio=0.3)
    bundle, properties = apply(step, two_heads, tmp_path / "small", PassContext(examples))
    assert properties["intermediate_size"] == 88
    assert json.loads((bundle.model_dir / "config.json").read_text())["intermediate_size"] == 88
    for predictor in Predictor.each(bundle).values():
        assert len(predictor.predict([{"text": text} for text in TEXTS])) == len(TEXTS)


@pytest.mark.parametrize(
    ("ratio", "size"), [(0.5, 64), (0.3, 88), (0.52, 64), (0.99, 8), (0.05, 120)]
)
def test_a_multiple_of_eight_is_left(ratio, size):
    assert PruneFeedForward(ratio=ratio)._size(128) == size


@pytest.mark.parametrize("options", [{"intermediate_size": 128}, {"ratio": 0.01}])
def test_a_size_that_is_no_smaller_is_refused(classifier, options):
    with pytest.raises(CompressionError, match="would keep 128 of the 128 neurons"):
        PruneFeedForward(**options).check(classifier)


def test_without_training_rows_nothing_can_be_weighed(classifier, tmp_path):
    with pytest.raises(CompressionError, match="needs training rows"):
        apply(PruneFeedForward(), classifier, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_products_that_cannot_be_told_apart_are_refused(make_decoder, own_words, tmp_path):
    source = make_decoder(intermediate_size=64)  # as wide as the attention
    with pytest.raises(CompressionError, match="not one block of its own"):
        apply(PruneFeedForward(), source, tmp_path / "small", PassContext(own_words))
