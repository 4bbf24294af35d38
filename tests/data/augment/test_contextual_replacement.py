"""Exchanged words fit their place, as a model that has learned a small language finds."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from ray_sft.core import ConfigError
from ray_sft.data.augment import ContextualReplacement, Draws
from ray_sft.models import train_wordpiece
from tests.factories import tiny_masked_model

COLOURS = ("red", "green", "blue", "white")
ANIMALS = ("cat", "dog", "horse", "bird")
VERBS = ("runs", "sleeps", "eats", "waits")
SENTENCES = [f"the {c} {a} {v} here" for c in COLOURS for a in ANIMALS for v in VERBS]
ENOUGH_STEPS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that knows which kind of word stands where."""
    folder = tmp_path_factory.mktemp("model")
    processor = train_wordpiece(SENTENCES * 5, vocab_size=300)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    batch = processor(SENTENCES, return_tensors="pt")
    ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(ENOUGH_STEPS):
        is_hidden = (torch.rand(ids.shape, generator=rng) < 0.3) & (ids > 4)
        hidden = ids.masked_fill(is_hidden, processor.mask_token_id)
        labels = ids.masked_fill(~is_hidden, -100)
        loss = model(input_ids=hidden, attention_mask=attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def copies(operation, text, num=40):
    rngs = [Draws(seed) for seed in range(num)]
    return [row["text"] for row in operation.change_rows([{"text": text}] * num, rngs)]


def test_a_word_becomes_another_of_its_kind(folder):
    operation = ContextualReplacement(model=str(folder), rate=0.2, top_k=3)
    before = ["The", "red", "cat", "runs", "here"]
    kinds = (("the",), COLOURS, ANIMALS, VERBS, ("here",))
    seen = set()
    for text in copies(operation, " ".join(before), num=120):
        after = text.split()
        changed = [place for place in range(5) if after[place] != before[place]]
        assert len(changed) == 1
        seen |= {(changed[0], after[changed[0]])}
    right = [(place, word) for place, word in seen if word.casefold() in kinds[place]]
    inner = [(place, word) for place, word in seen if place in (1, 2, 3)]
    assert {word for place, word in inner if place == 2} == set(ANIMALS) - {"cat"}
    assert len([pair for pair in inner if pair in right]) == len(inner)


def test_marks_numbers_addresses_and_casing_stay(folder):
    operation = ContextualReplacement(model=str(folder), rate=1.0)
    for text in copies(operation, "The RED cat, @bob 42 waits!"):
        the, red, cat, bob, number, waits = text.split()
        assert (cat[-1], bob, number, waits[-1]) == (",", "@bob", "42", "!")
        assert the[0].isupper()
        assert red.isupper()
        assert red != "RED"


def test_copies_do_not_depend_on_what_stands_beside_them(folder):
    operation = ContextualReplacement(model=str(folder), rate=0.4)
    rows = [{"text": text} for text in SENTENCES]
    together = operation.change_rows(rows, [Draws(n) for n in range(len(rows))])
    alone = [operation(row, Draws(n)) for n, row in enumerate(rows)]
    assert together == alone


def test_words_behind_the_longest_text_and_texts_with_masks_stay(folder):
    operation = ContextualReplacement(model=str(folder), rate=1.0)
    masked = "the [MASK] cat"
    assert copies(operation, masked, num=3) == [masked] * 3
    long = " ".join(["the red cat runs here"] * 20)
    tail = " ".join(long.split()[40:])
    assert all(text.endswith(tail) for text in copies(operation, long, num=3))


def test_a_model_without_the_head_is_refused_before_work(tmp_path):
    ContextualReplacement(model=str(tiny_masked_model())).check()
    processor = train_wordpiece(SENTENCES, vocab_size=300)
    processor.save_pretrained(tmp_path)
    config = BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"needs a masked language model.*BertModel"):
        ContextualReplacement(model=str(tmp_path)).check()
    with pytest.raises(ConfigError, match="does not exist"):
        ContextualReplacement(model=str(tmp_path / "gone")).check()


def test_the_fingerprint_follows_the_settings(folder):
    one = ContextualReplacement(model=str(folder))
    assert one.fingerprint() == ContextualReplacement(model=str(folder)).fingerprint()
    assert one.fingerprint() != ContextualReplacement(model=str(folder), rate=0.3).fingerprint()
