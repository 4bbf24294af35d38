"""Translations of a text do not depend on the texts beside it, drawn or not."""

import pytest
import torch

from ray_sft.core import ConfigError
from ray_sft.inference.translator import Sampling, Translator, check_translator
from ray_sft.models import locate
from tests.factories import TEXTS, tiny_masked_model, tiny_translation_model

MANY = [f"{text} {number}" for number in range(4) for text in TEXTS]
SEEDS = list(range(len(MANY)))


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator.load(str(tiny_translation_model()))


@pytest.mark.parametrize("sampling", [None, Sampling(0.0), Sampling(0.7), Sampling(1.5, top_k=3)])
def test_a_text_alone_and_among_others(translator, sampling):
    together = translator.translate(MANY, sampling=sampling, seeds=SEEDS)
    alone = [
        translator.translate([text], sampling=sampling, seeds=[seed])[0]
        for text, seed in zip(MANY, SEEDS, strict=True)
    ]
    assert together == alone


def test_seeds_make_the_difference(translator):
    drawn = [translator.translate(MANY, sampling=Sampling(1.0), seeds=SEEDS) for _ in range(2)]
    other = translator.translate(MANY, sampling=Sampling(1.0), seeds=[seed + 100 for seed in SEEDS])
    assert drawn[0] == drawn[1] != other
    assert len(set(drawn[0])) > len(MANY) // 2


def test_tokens_are_drawn_as_often_as_they_are_likely(translator):
    """Against the softmax over the likeliest ones, by the first token of many drawings."""
    sampling = Sampling(temperature=0.8, top_k=4)
    (example,) = translator.task.encode([{"text": TEXTS[0]}], translator.processor)
    batch = translator.task.collate([example], translator.processor)
    start = torch.tensor([[translator.model.generation_config.decoder_start_token_id]])
    with torch.no_grad():
        logits_V = translator.model(
            input_ids=torch.from_numpy(batch["input_ids"]),
            attention_mask=torch.from_numpy(batch["attention_mask"]),
            decoder_input_ids=start,
        ).logits[0, 0]
    likely = logits_V.topk(sampling.top_k)
    expected = torch.softmax(likely.values / sampling.temperature, dim=0)
    noise = translator.noise(range(4000), sampling)
    drawn = noise(start, logits_V.expand(4000, -1)).argmax(dim=1)
    share = torch.stack([(drawn == token).float().mean() for token in likely.indices])
    assert share.sum() == 1
    assert (share - expected).abs().max() < 0.03  # four standard deviations


def test_what_is_too_long_is_not_translated(translator):
    assert translator.translate(["word " * 400, ""]) == ["", ""]


def test_the_greedy_translation_is_that_of_transformers(translator):
    found = translator.translate(MANY)
    for text, ours in zip(MANY, found, strict=True):
        (example,) = translator.task.encode([{"text": text}], translator.processor)
        batch = translator.task.collate([example], translator.processor)
        ids = translator.model.generate(
            input_ids=torch.from_numpy(batch["input_ids"]),
            max_new_tokens=2 * example.length + 8,
            num_beams=1,
            do_sample=False,
        )[0]
        theirs = translator.processor.decode(ids, skip_special_tokens=True).strip()
        has_end = bool((ids[1:] == translator.processor.eos_token_id).any())
        assert ours == (theirs if has_end else "")


def test_another_kind_of_model_is_refused():
    with pytest.raises(ConfigError, match=r"there: .* is no translation model \(bert\)"):
        check_translator(str(tiny_masked_model()), field="there")
    assert locate(str(tiny_translation_model()))
