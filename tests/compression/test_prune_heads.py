"""Heads that nothing depends on go and are not missed; what goes stays away."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ray_sft.bundle import Bundle
from ray_sft.compression import Compress, PassContext, PruneHeads, compress
from ray_sft.compression.attention_heads import cut_silent_heads, heads_of
from ray_sft.compression.importance import importances
from ray_sft.core import CompressionError, ConfigError
from ray_sft.models import load_tasks
from tests.compression.conftest import apply

IDS = torch.arange(6, 22)[None]


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def deaf(model):
    """The first head of each layer is read by nothing."""
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight[:, :32] = 0.0


def test_idle_heads_of_an_encoder_go_and_are_not_missed(make_encoder, intents, tmp_path):
    source = make_encoder(edit=deaf)
    step = PruneHeads(ratio=0.5, rounds=2)
    bundle, properties = apply(step, source, tmp_path / "small", PassContext(intents))
    assert properties == {"heads_of_layers": [1, 1, 1, 1], "num_heads_before": 8}
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    full = AutoModelForSequenceClassification.from_pretrained(source.model_dir)
    torch.testing.assert_close(logits(model), logits(full), rtol=0, atol=1e-5)
    before = logits(model)
    assert cut_silent_heads(model) == 4
    assert model.bert.encoder.layer[2].attention.self.value.weight.shape == (32, 64)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)


def test_silent_heads_stay_silent_in_training(make_encoder, intents, tmp_path):
    step = PruneHeads(ratio=0.5)
    bundle, properties = apply(step, make_encoder(), tmp_path / "small", PassContext(intents))
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir).train()
    before = [heads.speaking() for heads in heads_of(model)]
    assert [len(one) for one in before] == properties["heads_of_layers"]
    assert sum(properties["heads_of_layers"]) == 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    weight = model.bert.encoder.layer[0].intermediate.dense.weight.clone()
    for _ in range(5):
        model(input_ids=IDS, labels=torch.tensor([1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (model.bert.encoder.layer[0].intermediate.dense.weight - weight).abs().max() > 1e-3
    assert [heads.speaking() for heads in heads_of(model)] == before


def test_the_export_cuts_them_out(make_encoder, intents, tmp_path):
    source = make_encoder()
    passes = [{"kind": "prune_heads", "ratio": 0.5}, {"kind": "export_onnx"}]
    _, pruned, exported = compress(
        Compress(passes=passes, min_speedup=0.0),
        source,
        examples=intents,
        out_dir=tmp_path,
        num_threads=1,
        progress=lambda _: None,
        context=PassContext(intents),
    )
    assert exported.metrics == pytest.approx(pruned.metrics, abs=1e-4)
    saved = 4 * 4 * 32 * 64 * 4  # of four heads four matrices of 32 x 64 in fp32
    assert exported.num_bytes < pruned.num_bytes - 0.8 * saved
    assert Bundle.open(exported.path).manifest.properties["precision"] == "fp32"


def test_a_decoder_loses_groups_and_says_so(make_decoder, own_words, tmp_path):
    source = make_decoder(num_attention_heads=8, num_key_value_heads=4, head_dim=16)
    full = AutoModelForCausalLM.from_pretrained(source.model_dir)
    with torch.no_grad():
        for number, layer in enumerate(full.model.layers):
            for group in (number, 3):  # two idle groups of two heads, other ones in each layer
                layer.self_attn.o_proj.weight[:, group * 32 : (group + 1) * 32] = 0.0
    full.save_pretrained(source.model_dir)
    step = PruneHeads(ratio=0.5, rounds=1)
    bundle, properties = apply(step, source, tmp_path / "small", PassContext(own_words))
    assert properties["heads_of_layers"] == [2, 2]
    model = AutoModelForCausalLM.from_pretrained(bundle.model_dir)
    config = model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 16)
    assert model.model.layers[0].self_attn.q_proj.weight.shape == (64, 64)
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (32, 64)
    torch.testing.assert_close(logits(model), logits(full), rtol=0, atol=1e-5)
    assert bundle.num_bytes < source.num_bytes
    (steps) = compress(
        Compress(passes=[{"kind": "export_onnx"}], min_speedup=0.0),
        bundle,
        examples=own_words,
        out_dir=tmp_path / "onnx",
        num_threads=1,
        progress=lambda _: None,
    )
    assert steps[1].parity <= 1e-4


def test_every_layer_of_a_decoder_keeps_as_many_though_some_are_idle(
    make_decoder, own_words, tmp_path
):
    source = make_decoder(num_attention_heads=8, num_key_value_heads=4, head_dim=16)
    full = AutoModelForCausalLM.from_pretrained(source.model_dir)
    with torch.no_grad():  # three of four groups of the first layer
        full.model.layers[0].self_attn.o_proj.weight[:, 32:] = 0.0
    full.save_pretrained(source.model_dir)
    step = PruneHeads(ratio=0.5, rounds=4)
    bundle, properties = apply(step, source, tmp_path / "small", PassContext(own_words))
    assert properties["heads_of_layers"] == [2, 2]
    model = AutoModelForCausalLM.from_pretrained(bundle.model_dir)
    assert model.model.layers[0].self_attn.q_proj.weight.shape == (64, 64)


def test_importance_is_the_mean_over_examples_of_the_gradient_of_a_gate(
    classifier, intents, processor
):
    tasks = classifier.manifest.tasks
    model = load_tasks(str(classifier.model_dir), tasks, processor=processor).eval()
    every = heads_of(model)
    readers = [heads.output for heads in every]
    found = importances(model, readers, tasks, intents, processor, sizes=[32, 32])
    expected = [torch.zeros(2) for _ in found]
    for example in intents["intent"]:
        gates = [torch.ones(2, requires_grad=True) for _ in found]
        hooks = [
            reader.register_forward_pre_hook(
                lambda _module, inputs, gate=gate: (inputs[0] * gate.repeat_interleave(32),)
            )
            for reader, gate in zip(readers, gates, strict=True)
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


def test_one_head_of_a_layer_always_stays(make_encoder, intents, tmp_path):
    step = PruneHeads(ratio=0.95)
    _, properties = apply(step, make_encoder(), tmp_path / "small", PassContext(intents))
    assert properties["heads_of_layers"] == [1, 1, 1, 1]


def test_what_cannot_lose_heads_is_refused(decoder, make_encoder, tmp_path):
    with pytest.raises(CompressionError, match="would keep 2 of the 2 groups"):
        PruneHeads(ratio=0.1).check(decoder)

    def edit(model):
        model.config.relative_attention_num_buckets = 32

    with pytest.raises(CompressionError, match="a table of distances for each head"):
        PruneHeads().check(make_encoder(edit=edit))
    with pytest.raises(CompressionError, match="there are none"):
        apply(PruneHeads(), make_encoder(), tmp_path / "small")
    with pytest.raises(ConfigError, match="no single attention"):
        heads_of(Fused())
    assert cut_silent_heads(Fused()) == 0


class Fused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = AutoModelForSequenceClassification
        self.config = type("Config", (), {"hidden_size": 8, "num_attention_heads": 2})()
        self.config.num_hidden_layers = 1
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 24)])
