import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ray_sft.compression import DropLayers
from ray_sft.compression.drop_layers import _spread
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from tests.compression.conftest import TEXTS, apply

IDS = torch.arange(6, 22)[None]


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.mark.parametrize(
    ("num_layers", "keep", "kept"),
    [
        (6, 3, [0, 3, 5]),
        (12, 6, [0, 2, 4, 7, 9, 11]),
        (4, 2, [0, 3]),
        (4, 3, [0, 2, 3]),
        (4, 1, [0]),
    ],
)
def test_layers_are_kept_at_even_distances_with_both_ends(num_layers, keep, kept):
    assert _spread(num_layers, keep) == kept


def test_the_layers_that_are_left_are_the_same_and_load_in_plain_transformers(
    make_encoder, tmp_path
):
    source = make_encoder()
    bundle, properties = apply(DropLayers(keep=2), source, tmp_path / "small")
    assert properties == {"kept_layers": [0, 3]}
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    assert model.config.num_hidden_layers == 2
    expected = AutoModelForSequenceClassification.from_pretrained(source.model_dir)
    stack = expected.bert.encoder.layer
    expected.bert.encoder.layer = torch.nn.ModuleList([stack[0], stack[3]])
    weights, kept = expected.state_dict(), model.state_dict()
    assert kept.keys() == weights.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())
    # where weights lie in memory decides which kernel multiplies them, and so about the last bit
    torch.testing.assert_close(logits(model), logits(expected), rtol=1e-6, atol=1e-6)
    assert bundle.num_bytes < source.num_bytes


def test_a_decoder_generates_the_same_with_and_without_its_cache(make_decoder, tmp_path):
    bundle, _ = apply(DropLayers(keep=2), make_decoder(num_hidden_layers=4), tmp_path / "small")
    model = AutoModelForCausalLM.from_pretrained(bundle.model_dir).eval()
    assert model.config.num_hidden_layers == 2
    cached, uncached = (
        model.generate(
            IDS,
            attention_mask=torch.ones_like(IDS),
            max_new_tokens=12,
            do_sample=False,
            use_cache=use_cache,
            pad_token_id=0,
        )
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)


def test_lists_of_the_configuration_follow_the_layers(make_encoder, tmp_path):
    def edit(model):
        model.config.layer_types = ["full_attention", "conv", "moe", "sliding_attention"]

    bundle, _ = apply(DropLayers(keep=2), make_encoder(edit=edit), tmp_path / "small")
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    assert model.config.layer_types == ["full_attention", "sliding_attention"]


def test_several_heads_stay_as_they_are_on_a_shorter_backbone(two_heads, tmp_path):
    bundle, _ = apply(DropLayers(keep=1), two_heads, tmp_path / "small")
    before, after = Predictor.each(two_heads), Predictor.each(bundle)
    assert set(after) == {"intent", "vector"}
    module = after["intent"].model.module
    assert len(module.backbone.encoder.layer) == 1
    for name, weight in before["intent"].model.module.heads.state_dict().items():
        assert torch.equal(module.heads.state_dict()[name], weight)
    for predictor in after.values():
        assert len(predictor.predict([{"text": text} for text in TEXTS])) == len(TEXTS)


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_by_similarity_a_layer_that_does_nothing_goes_and_is_not_missed(
    make_decoder, tmp_path, idle
):
    source = make_decoder(num_hidden_layers=3)
    model = AutoModelForCausalLM.from_pretrained(source.model_dir)
    with torch.no_grad():
        model.model.layers[idle].self_attn.o_proj.weight.zero_()
        model.model.layers[idle].mlp.down_proj.weight.zero_()
    model.save_pretrained(source.model_dir)
    bundle, properties = apply(DropLayers(keep=2, by="similarity"), source, tmp_path / "small")
    assert properties["kept_layers"] == [number for number in range(3) if number != idle]
    small = AutoModelForCausalLM.from_pretrained(bundle.model_dir)
    torch.testing.assert_close(logits(small), logits(model), rtol=0, atol=1e-5)


def test_similarity_is_measured_on_the_texts_of_every_head(two_heads, tmp_path):
    _, properties = apply(DropLayers(keep=2, by="similarity"), two_heads, tmp_path / "small")
    assert len(properties["kept_layers"]) == 2


@pytest.mark.parametrize("keep", [2, 5])
def test_keeping_as_many_layers_as_there_are_is_refused(classifier, keep):
    with pytest.raises(CompressionError, match=rf"keep is {keep}.*has only 2 layers.*to 1 or less"):
        DropLayers(keep=keep).check(classifier)
