"""NEFTune adds noise of the strength that its algorithm says to what a sequence holds."""

import pytest
import torch

from ray_sft.models import use_segmented_attention
from ray_sft.objectives import Neftune, RDrop, neftune, wrap_all
from tests.factories import (
    TASKS,
    causal_language_model,
    sequence_classification,
    translation,
)
from tests.objectives.embedded import STOCK, batch_of, embedded_inputs, plain_loss, tensors
from tests.objectives.shared_dropout import share_dropout, shared_noise

ALPHA = 5.0


@pytest.mark.parametrize("kind", STOCK, ids=lambda kind: kind.__name__)
def test_noise_is_uniform_and_scaled_by_the_length_of_its_own_sequence(kind):
    case = TASKS[kind]()
    batch = batch_of(case)
    embedding = case.model.get_input_embeddings()
    clean = embedding(batch["input_ids"]).detach()
    seen = []

    def watch(batch):
        handle = embedding.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
        try:
            return case.task.loss(case.model, batch)
        finally:
            handle.remove()

    torch.manual_seed(1)
    Neftune(alpha=ALPHA).wrap(watch, case.model)(batch)
    (blurred,) = seen
    dim = clean.shape[-1]
    for row, mask in zip(blurred - clean, batch["attention_mask"], strict=True):
        length = int(mask.sum())
        noise = row[:length] * (length * dim) ** 0.5 / ALPHA
        assert float(noise.abs().max()) <= 1.0 + 1e-4
        assert float(noise.abs().max()) > 0.97
        assert abs(float(noise.mean())) < 0.2
        assert float(noise.var()) == pytest.approx(1 / 3, rel=0.25)


def test_a_packed_sequence_gets_the_noise_of_its_own_length(monkeypatch):
    """Under draws that all positions share, packed and padded rows have the same loss."""
    monkeypatch.setattr(neftune, "uniform", shared_noise)
    case = causal_language_model()
    examples = case.task.encode(case.rows, case.processor)

    def loss(batch):
        torch.manual_seed(2)
        return Neftune(alpha=ALPHA).wrap(plain_loss(case), case.model)(batch)

    padded = loss(batch_of(case))
    use_segmented_attention(case.model)
    packed = loss(tensors(case.task.pack([examples[:3], examples[3:]], case.processor)))
    assert packed.num_targets == padded.num_targets
    torch.testing.assert_close(packed.loss_sum, padded.loss_sum, rtol=1e-5, atol=0)


def test_every_pass_draws_anew():
    case = sequence_classification()
    share_dropout(case.model)
    run = wrap_all([Neftune(alpha=ALPHA), RDrop()], plain_loss(case), case.model)
    one, two = embedded_inputs(case.model, lambda: run(batch_of(case)))
    assert float((one - two).abs().max()) > 1e-3


def test_both_sides_of_an_encoder_decoder_are_blurred():
    case = translation()
    batch = batch_of(case)
    table = case.model.get_input_embeddings().weight
    calls = []
    modules = [
        part
        for part in case.model.modules()
        if isinstance(part, torch.nn.Embedding) and part.weight is table
    ]

    def watch(given):
        handles = [
            part.register_forward_hook(
                lambda part, args, out: calls.append((out - part.weight[args[0]]).detach())
            )
            for part in modules
        ]
        try:
            return case.task.loss(case.model, given)
        finally:
            for handle in handles:
                handle.remove()

    Neftune(alpha=ALPHA).wrap(watch, case.model)(batch)
    written = (batch["labels"] != -100).sum(dim=1)
    assert len(calls) == 2
    for noise, lengths in zip(calls, (batch["attention_mask"].sum(dim=1), written), strict=True):
        for row, length in zip(noise, lengths.tolist(), strict=True):
            bound = ALPHA / (length * row.shape[-1]) ** 0.5
            assert 0.9 * bound < float(row[:length].abs().max()) <= bound * (1 + 1e-4)
