"""Smaller vocabularies: texts of what is left are split as before, by every kind of tokenizer."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, BertForMaskedLM, PreTrainedTokenizerFast

from ray_sft.core import ConfigError
from ray_sft.models import keep_rows, keep_tokens, load_processor, train_tokenizer, train_wordpiece
from tests.factories import TEXTS, tiny_decoder, tiny_masked_model

WORDS = [
    "".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=3 + number % 7))
    for number in range(400)
]
CORPUS = [
    " ".join(random.Random(-number).choices(WORDS[: 20 + number], k=12)) for number in range(300)
] + [*TEXTS] * 5
SEEN = [*CORPUS[:40], *TEXTS]


def sentence_pieces(model, trainer) -> PreTrainedTokenizerFast:
    """A tokenizer as SentencePiece writes them, with bytes for what has no piece."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback()]
    )
    tokenizer.train_from_iterator(CORPUS, trainer(["<unk>", "<s>", "</s>", *bytes_]))
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> $B:1 </s>:1", [("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def by_bytes():
    return train_tokenizer(CORPUS, vocab_size=900)


def by_wordpieces():
    return train_wordpiece(CORPUS, vocab_size=900)


def by_merged_pieces():
    return sentence_pieces(
        models.BPE(unk_token="<unk>", byte_fallback=True),
        lambda special: trainers.BpeTrainer(vocab_size=1100, special_tokens=special),
    )


def by_likely_pieces():
    return sentence_pieces(
        models.Unigram(),
        lambda special: trainers.UnigramTrainer(
            vocab_size=900, special_tokens=special, unk_token="<unk>"
        ),
    )


def by_words():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"])
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


KINDS = (by_bytes, by_wordpieces, by_merged_pieces, by_likely_pieces, by_words)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("characters", [True, False])
def test_texts_whose_tokens_are_left_are_split_as_before(make, characters, tmp_path: Path):
    before = make()
    before.add_tokens(["<order>"])
    before.save_pretrained(tmp_path)
    encoded = [before(text)["input_ids"] for text in SEEN]
    used = {number for ids in encoded for number in ids}
    kept = keep_tokens(tmp_path, used, characters=characters)
    after = AutoTokenizer.from_pretrained(tmp_path)
    assert kept == sorted(set(kept))
    assert used <= set(kept)
    assert len(after) == len(kept) < len(before)
    assert after.convert_ids_to_tokens(list(range(len(kept)))) == before.convert_ids_to_tokens(kept)
    places = {number: place for place, number in enumerate(kept)}
    for text, ids in zip(SEEN, encoded, strict=True):
        assert after(text)["input_ids"] == [places[number] for number in ids]
    for one, two in pairwise(encoded):
        texts = [before.decode(ids, skip_special_tokens=True) for ids in (one, two)]
        pairs = before(*texts)["input_ids"]
        if used.issuperset(pairs):
            assert after(*texts)["input_ids"] == [places[number] for number in pairs]
    for name in ("unk_token", "bos_token", "eos_token", "pad_token", "cls_token", "mask_token"):
        assert getattr(after, name) == getattr(before, name)
    assert after.convert_tokens_to_ids("<order>") == len(kept) - 1
    assert after("<order>", add_special_tokens=False)["input_ids"] == [len(kept) - 1]


@pytest.mark.parametrize(
    "make", [by_bytes, by_wordpieces, by_merged_pieces, by_likely_pieces], ids=lambda m: m.__name__
)
def test_any_word_can_still_be_spelled(make, tmp_path: Path):
    before = make()
    before.save_pretrained(tmp_path)
    used = set(before("Close my account")["input_ids"])
    keep_tokens(tmp_path, used, characters=True)
    after = load_processor(tmp_path)
    for text in CORPUS[:50]:
        ids = after(text, add_special_tokens=False)["input_ids"]
        assert after.unk_token_id is None or after.unk_token_id not in ids
        plain = before.decode(before(text, add_special_tokens=False)["input_ids"])
        assert after.decode(ids).replace(" ", "") == plain.replace(" ", "")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        keep_tokens(tmp_path, set(), characters=True)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Other", "vocab": {}}}')
    with pytest.raises(ConfigError, match="of kind 'Other' cannot lose tokens"):
        keep_tokens(tmp_path, set(), characters=True)


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_without_rows_answers_as_before(tied, tmp_path: Path):
    model = tiny_decoder()
    model.config.tie_word_embeddings = tied
    model.tie_weights()
    kept = sorted({*range(6), *range(20, 90, 3), model.config.eos_token_id})
    ids = torch.tensor([[kept[3], kept[-1], kept[7], kept[12]]])
    places = torch.tensor([[3, len(kept) - 1, 7, 12]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[..., kept]
        ends = kept.index(model.config.eos_token_id)
        keep_rows(model, kept)
        torch.testing.assert_close(model(input_ids=places).logits, expected)
    assert model.config.vocab_size == len(kept)
    assert model.config.eos_token_id == ends
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=places).logits, expected)


def test_a_masked_language_model_keeps_the_biases_of_its_rows():
    model = BertForMaskedLM.from_pretrained(tiny_masked_model()).eval()
    with torch.no_grad():
        model.cls.predictions.bias.copy_(torch.randn(len(model.cls.predictions.bias)))
        kept = [0, 1, 2, 3, 4, 9, 17, 40, 41]
        expected = model(input_ids=torch.tensor([[2, 40, 9, 3]])).logits[..., kept]
        keep_rows(model, kept)
        found = model(input_ids=torch.tensor([[2, 7, 5, 3]])).logits
    torch.testing.assert_close(found, expected)
