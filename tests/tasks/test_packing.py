"""A packed row means what its examples mean alone."""

import numpy as np
import pytest
import torch

from ray_sft.tasks import IGNORED, CausalLanguageModel
from tests.factories import TEXTS, causal_language_model, tiny_decoder

CASE = causal_language_model()


@pytest.fixture(params=["chat", "text"])
def examples(request):
    if request.param == "chat":
        return CASE.task.encode(CASE.rows, CASE.processor)
    task = CausalLanguageModel(format="text")
    return task.encode([{"text": text} for text in TEXTS], CASE.processor)


def token_losses(model, batch):
    """The loss at each position of ``labels``, zero where there is no target."""
    inputs = {k: torch.from_numpy(v) for k, v in batch.items() if k != "labels"}
    labels = torch.from_numpy(batch["labels"])
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none"
    )
    return losses.view(len(labels), -1).numpy()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_of_each_token_packed_is_that_unpacked(examples, attention):
    model = tiny_decoder(attention=attention)
    groups = [examples[:2], examples[2:]]  # of different lengths: one row is filled up
    packed = token_losses(model, CASE.task.pack(groups, CASE.processor))
    for row, group in zip(packed, groups, strict=True):
        start = 0
        for example in group:
            alone = token_losses(model, CASE.task.collate([example], CASE.processor))[0]
            found = row[start : start + example.length - 1]
            np.testing.assert_allclose(found, alone, atol=1e-4)
            start += example.length
        assert (row[start - 1 :] == 0).all()


def test_packing_would_leak_without_positions(examples):
    """The measure above can fail: with one run of positions the examples see each other."""
    model = tiny_decoder()
    batch = CASE.task.pack([examples], CASE.processor)
    isolated = token_losses(model, batch)
    batch["position_ids"] = np.arange(batch["input_ids"].shape[1])[None]
    assert np.abs(token_losses(model, batch) - isolated).max() > 1e-2


def test_the_first_token_of_a_sequence_is_no_target(examples):
    batch = CASE.task.pack([examples], CASE.processor)
    starts = np.cumsum([0, *[example.length for example in examples[:-1]]])
    assert (batch["labels"][0, starts] == IGNORED).all()
    assert (batch["position_ids"][0, starts] == 0).all()


def test_packed_and_padded_have_the_same_targets_and_loss(examples):
    padded = CASE.task.collate(examples, CASE.processor)
    packed = CASE.task.pack([examples[::2], examples[1::2]], CASE.processor)
    assert CASE.task.num_targets(packed) == CASE.task.num_targets(padded)
    with torch.no_grad():
        one, two = (
            CASE.task.loss(CASE.model, {k: torch.from_numpy(v) for k, v in b.items()})
            for b in (padded, packed)
        )
    torch.testing.assert_close(one.loss_sum, two.loss_sum, rtol=1e-5, atol=1e-4)


def test_gradients_packed_are_those_unpacked(examples):
    gradients = []
    for batch in (
        CASE.task.collate(examples, CASE.processor),
        CASE.task.pack([examples], CASE.processor),
    ):
        CASE.model.zero_grad()
        tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
        CASE.task.loss(CASE.model, tensors).loss_sum.backward()
        gradients.append([p.grad.clone() for p in CASE.model.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
