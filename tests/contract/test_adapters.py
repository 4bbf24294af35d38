"""The laws of adapters: they train little, change nothing else, and vanish into the model."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from ray_sft.core import ConfigError
from ray_sft.models import (
    BITS_PER_WEIGHT,
    Adapter,
    AnyAdapter,
    Dora,
    Ia3,
    Lora,
    PromptTuning,
    RsLora,
)
from ray_sft.models.adapters.four_bit import PackedLinear
from ray_sft.models.prompt import put_prompt
from ray_sft.tasks import CausalLanguageModel, SequenceClassification, Translation
from tests.factories import (
    ADAPTERS,
    LABELS,
    masked_language_model,
    members,
    tiny_decoder,
    tiny_encoder,
    tiny_headed,
    tiny_processor,
    translation,
)

CLASSIFY = {"intent": SequenceClassification(labels=LABELS, max_length=64)}
COMPLETE = {"reply": CausalLanguageModel(max_length=64)}
SEVERAL = CLASSIFY | {"topic": SequenceClassification(labels=("a", "b"), max_length=64)}

CASES = {
    "classifier": (lambda: tiny_encoder(len(LABELS)), CLASSIFY, {"classifier"}),
    "several heads": (lambda: tiny_headed(SEVERAL), SEVERAL, {"heads"}),
    "decoder": (tiny_decoder, COMPLETE, set()),
    "translator": (lambda: translation().model, {"en_zh": Translation()}, set()),
}


FITTING = [
    (name, kind)
    for name in CASES
    for kind in members(AnyAdapter)
    if (name, kind) != ("translator", PromptTuning)  # refused, as every adapter's tokens are
]


@pytest.fixture(params=FITTING, ids=lambda pair: f"{pair[0]}-{pair[1].__name__}")
def fitted(request):
    """A model that an adapter can be put into, its tasks, its heads, and the adapter."""
    name, kind = request.param
    make, tasks, heads = CASES[name]
    adapter = ADAPTERS[kind]()
    return fitting(make(), adapter), tasks, heads, adapter


@pytest.fixture(params=members(AnyAdapter), ids=lambda kind: kind.__name__)
def adapter(request) -> Adapter:
    assert request.param in ADAPTERS, f"{request.param.__name__} has no factory"
    return ADAPTERS[request.param]()


def fitting(model, adapter):
    """The model with rows for a prompt, where the adapter has one."""
    body = getattr(model, "backbone", model)
    if len(processor_of(adapter)) > body.get_input_embeddings().num_embeddings:
        body.resize_token_embeddings(len(processor_of(adapter)))
    return model


def processor_of(adapter):
    processor = deepcopy(tiny_processor())
    if isinstance(adapter, PromptTuning):
        put_prompt(processor, adapter.num_tokens)
    return processor


def output(model):
    """The answers to two texts, which begin with a prompt where the model has rows for one."""
    size = len(tiny_processor())
    ids = torch.arange(5, 5 + 14).view(2, 7) % size
    num_more = len(model.get_input_embeddings().weight) - size
    ids = torch.cat([torch.arange(size, size + num_more).expand(2, -1), ids], dim=1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids.flip(1)
    found = model(**inputs)
    return found["intent" if "intent" in found else "logits"]


def train_a_little(model, adapter):
    """Moves the adapter's own weights to where it changes the answers."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if adapter.marker in name and "lora_A" not in name:
            parameter.add_(torch.randn_like(parameter) * 0.3)


def test_kind_is_the_name_of_the_module_and_of_the_class(adapter):
    assert type(adapter).__module__.rsplit(".", 1)[-1] == adapter.kind
    assert type(adapter).__name__.lower() == adapter.kind.replace("_", "")


def test_survives_json_and_is_frozen(adapter):
    either = TypeAdapter(AnyAdapter)
    assert either.validate_json(either.dump_json(adapter)) == adapter
    with pytest.raises(ValueError, match="frozen"):
        adapter.kind = "other"


def test_only_adapters_and_new_heads_are_trained(fitted):
    model, tasks, heads, adapter = fitted
    before = {name: p.clone() for name, p in model.named_parameters()}
    adapter.inject(model, tasks, processor_of(adapter))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any(adapter.marker in name for name in trained)
    assert {name.split(".")[0] for name in trained if adapter.marker not in name} == heads
    found = dict(model.named_parameters())
    for name, parameter in before.items():
        layer, _, last = name.rpartition(".")
        kept = found.get(name, found.get(f"{layer}.base_layer.{last}"))
        torch.testing.assert_close(kept, parameter)


def test_it_trains_a_small_part_of_the_backbone(adapter):
    model = tiny_decoder()
    total = sum(parameter.numel() for parameter in fitting(model, adapter).parameters())
    adapter.inject(model, COMPLETE, processor_of(adapter))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 0 < trained < 0.3 * total


def test_an_untrained_adapter_changes_nothing(fitted):
    model, tasks, _, adapter = fitted
    with torch.no_grad():
        expected = output(model)
        adapter.inject(model, tasks, processor_of(adapter))
        torch.testing.assert_close(output(model), expected, rtol=1e-5, atol=1e-5)


def test_merged_weights_answer_as_the_adapted_model(fitted):
    model, tasks, _, adapter = fitted
    keys = set(model.state_dict())
    tuner = adapter.inject(model, tasks, processor_of(adapter))
    with torch.no_grad():
        plain = output(model)
        train_a_little(model, adapter)
        adapted = output(model)
        merged = tuner.merge_and_unload()
        assert not torch.allclose(adapted, plain, atol=1e-2)
        torch.testing.assert_close(output(merged), adapted, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == keys


def test_in_four_bits_it_answers_as_the_rounded_model_and_so_does_what_is_merged(fitted):
    """What is trained on packed weights is saved with the same weights, unpacked."""
    model, tasks, _, adapter = fitted
    adapter, plain = adapter.model_copy(update={"four_bit": True}), deepcopy(model)
    keys, num_weights = set(model.state_dict()), adapter.num_packed(model)
    adapter.inject(model, tasks, processor_of(adapter))
    tuner = adapter.inject(plain, tasks, processor_of(adapter), packed=False)
    packed = [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
    assert sum(layer.in_features * layer.out_features for layer in packed) == num_weights > 0
    with torch.no_grad():
        torch.testing.assert_close(output(model), output(plain), rtol=1e-5, atol=1e-5)
        train_a_little(model, adapter)
        adapted = output(model)
        missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
        assert len(missing) == len(packed)
        assert not unexpected
        merged = tuner.merge_and_unload()
        torch.testing.assert_close(output(merged), adapted, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == keys


@pytest.mark.parametrize("bf16", [False, True])
def test_in_four_bits_its_gradients_are_those_on_the_rounded_model(adapter, bf16):
    adapter = adapter.model_copy(update={"four_bit": True})
    packed, rounded = fitting(tiny_decoder(), adapter), fitting(tiny_decoder(), adapter)
    rounded.load_state_dict(packed.state_dict())
    for model in (packed, rounded):
        adapter.inject(model, COMPLETE, processor_of(adapter), packed=model is packed)
    rounded.load_state_dict(packed.state_dict(), strict=False)
    found = []
    for model in (packed, rounded):
        with torch.no_grad():
            train_a_little(model, adapter)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output(model).float().square().mean().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append(grads)
    assert found[0].keys() == found[1].keys()
    near = {"rtol": 5e-2, "atol": 5e-2} if bf16 else {"rtol": 1e-4, "atol": 1e-5}
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], **near)


def test_four_bits_are_the_papers_and_take_their_room():
    """NF4 by NumPy: the 16 values of QLoRA's appendix E, and divisors of 8 bits."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 512, bias=False)
    packed = PackedLinear(layer)
    weights = layer.weight.detach().numpy().reshape(-1, 64)
    largest = np.abs(weights).max(axis=1)
    nearest = np.abs((weights / largest[:, None])[..., None] - NF4).argmin(axis=-1)
    found = packed.weight.numpy().reshape(-1, 64)
    scale = (found / np.where(NF4[nearest] == 0, np.nan, NF4[nearest])).mean(
        axis=1, where=nearest != 7
    )
    np.testing.assert_allclose(found, NF4[nearest] * scale[:, None], atol=1e-6)
    assert np.abs(scale / largest - 1).max() < 0.02, "a divisor of 8 bits"
    num_bytes = sum(buffer.nbytes for buffer in packed.buffers())
    tables = packed.quantiles.nbytes + packed.outer_quantiles.nbytes + packed.offset.nbytes
    assert (num_bytes - tables) * 8 / layer.weight.numel() == pytest.approx(BITS_PER_WEIGHT)


NF4 = np.asarray(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", ["classifier", "several heads", "decoder"])
def test_embeddings_of_its_tokens_are_trained_and_merged(name, adapter):
    make, tasks, heads = CASES[name]
    model, processor = fitting(make(), adapter), processor_of(adapter)
    adapter = adapter.model_copy(update={"tokens": ("<|user|>", "<|bos|>")})
    ids = processor.convert_tokens_to_ids(list(adapter.trained_tokens()))
    keys, tables = set(model.state_dict()), tables_of(model)
    before = {table: model.state_dict()[table].clone() for table in tables}
    plain = output(model.eval())
    tuner = adapter.inject(model, tasks, processor)
    torch.testing.assert_close(output(model), plain, rtol=1e-5, atol=1e-5)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    rows = {name for name in trained if "trainable_tokens" in name}
    assert len(rows) == len(tables)
    others = {name for name in trained - rows if adapter.marker not in name}
    assert {name.split(".")[0] for name in others} == heads
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in rows:
                parameter.add_(1.0)
        adapted = output(model)
        merged = tuner.merge_and_unload()
    torch.testing.assert_close(output(merged), adapted, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == keys
    for table in tables:
        moved = merged.state_dict()[table] - before[table]
        assert moved.any(dim=1).nonzero().flatten().tolist() == sorted(ids)
        torch.testing.assert_close(moved[ids], torch.ones_like(moved[ids]))


def tables_of(model):
    """The names of the embeddings that a model reads and writes by."""
    layers = [model.get_input_embeddings()]
    if hasattr(model, "lm_head"):
        layers.append(model.lm_head)
    return [f"{n}.weight" for n, m in model.named_modules() if any(m is one for one in layers)]


def test_tokens_that_cannot_be_trained_by_themselves_are_refused(adapter):
    processor = processor_of(adapter)
    unknown = adapter.model_copy(update={"tokens": ("<|nothing|>",)})
    with pytest.raises(ConfigError, match=r"no token '<\|nothing\|>'.*extra_tokens"):
        unknown.inject(tiny_decoder(), COMPLETE, processor)
    known = adapter.model_copy(update={"tokens": ("<|user|>",)})
    for case in (translation(), masked_language_model()):
        with pytest.raises(ConfigError, match="train the whole model"):
            known.inject(case.model, {"it": case.task}, processor)


def test_a_model_without_layers_to_adapt_is_refused(adapter):
    class Plain(torch.nn.Module):
        base_model_prefix = "body"

        def __init__(self):
            super().__init__()
            self.body = torch.nn.Embedding(4, 4)

    with pytest.raises(ConfigError, match="adapter"):
        adapter.inject(Plain(), CLASSIFY, tiny_processor())  # which has no prompt either


def weight_after(adapter):
    """A layer's merged weight, its own before, B A, and DoRA's magnitudes."""
    model = tiny_encoder(len(LABELS))
    layer = "bert.encoder.layer.0.attention.self.key"
    before = model.get_submodule(layer).weight.detach().clone()
    tuner = adapter.inject(model, CLASSIFY, tiny_processor())
    with torch.no_grad():
        train_a_little(model, adapter)
        found = model.get_submodule(layer)
        update = found.lora_B["default"].weight @ found.lora_A["default"].weight
        magnitude = None
        if isinstance(adapter, Dora):
            magnitude = found.lora_magnitude_vector["default"].weight.clone()
        merged = tuner.merge_and_unload().get_submodule(layer).weight
    return merged, before, update, magnitude


def test_lora_adds_its_update_by_alpha_over_rank():
    merged, before, update, _ = weight_after(Lora(rank=4, alpha=8))
    torch.testing.assert_close(merged, before + 2.0 * update)


def test_rslora_adds_its_update_by_alpha_over_the_root_of_the_rank():
    merged, before, update, _ = weight_after(RsLora(rank=4, alpha=8))
    torch.testing.assert_close(merged, before + 8 / math.sqrt(4) * update)


def test_dora_scales_each_direction_to_its_magnitude():
    merged, before, update, magnitude = weight_after(Dora(rank=4, alpha=8))
    directed = before + 2.0 * update
    expected = magnitude[:, None] * directed / directed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(merged, expected)


def test_ia3_scales_keys_values_and_inner_activations():
    model = tiny_encoder(len(LABELS))
    Ia3().inject(model, CLASSIFY, tiny_processor())
    shapes = {
        name.removeprefix("bert.encoder.layer.0.").partition(".ia3_l")[0]: tuple(p.shape)
        for name, p in model.named_parameters()
        if "ia3_" in name and ".layer.0." in name
    }
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    assert shapes == {
        "attention.self.key": (hidden, 1),
        "attention.self.value": (hidden, 1),
        "output.dense": (1, inner),
    }
