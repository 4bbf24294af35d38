"""Embedding mixup agrees with its equation computed the long way round."""

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from ray_sft.objectives import EmbeddingMixup, LabelSmoothing, wrap_all
from ray_sft.tasks import IGNORED, SHARE, collate_with_partners, draw_partner
from tests.factories import sequence_classification
from tests.objectives.embedded import Inputs, plain_loss, tensors

SHARES = [0.9, 0.5, 0.2, 1.0, 0.0, 0.7]


@pytest.fixture
def case():
    return sequence_classification()


@pytest.fixture
def batch(case):
    examples = case.task.encode(case.rows, case.processor)
    partners = examples[1:] + examples[:1]
    return tensors(collate_with_partners(case.task, examples, partners, SHARES, case.processor))


def mixture(case, batch):
    """Log-probabilities of the classes for the mixed inputs, and the shares as a column."""
    embedding = case.model.get_input_embeddings()
    share = batch[SHARE][:, None, None]
    own, theirs = embedding(batch["input_ids"]), embedding(batch["partner.input_ids"])
    mask = batch["attention_mask"] | batch["partner.attention_mask"]
    mixed = Inputs(case.model, share * own + (1 - share) * theirs)
    logits = mixed(input_ids=None, attention_mask=mask).logits
    return log_softmax(logits, dim=1)


def test_equals_the_equation_computed_from_embedded_inputs(case, batch):
    log_p = mixture(case, batch)
    num_classes = log_p.shape[1]
    own = torch.nn.functional.one_hot(batch["labels"], num_classes)
    theirs = torch.nn.functional.one_hot(batch["partner.labels"], num_classes)
    share = batch[SHARE][:, None]
    expected = -((share * own + (1 - share) * theirs) * log_p).sum()
    clean = plain_loss(case)(batch)
    found = EmbeddingMixup(weight=0.6).wrap(plain_loss(case), case.model)(batch)
    total = clean.loss_sum + 0.6 * expected
    torch.testing.assert_close(found.loss_sum, total, rtol=1e-5, atol=0)
    named = [p for p in case.model.parameters() if p.requires_grad]
    pairs = zip(
        torch.autograd.grad(found.loss_sum, named, materialize_grads=True),
        torch.autograd.grad(total, named, materialize_grads=True),
        strict=True,
    )
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_a_share_of_one_is_the_row_itself(case, batch):
    whole = batch | {
        SHARE: torch.ones(6),
        "partner.attention_mask": torch.zeros_like(batch["attention_mask"]),
    }
    clean = plain_loss(case)(batch).loss_sum
    found = EmbeddingMixup().wrap(plain_loss(case), case.model)(whole).loss_sum
    torch.testing.assert_close(found, 2 * clean, rtol=1e-5, atol=0)


def test_a_partner_without_a_label_is_not_mixed_in(case, batch):
    whole = batch | {
        "partner.labels": torch.full((6,), IGNORED),
        "partner.attention_mask": torch.zeros_like(batch["attention_mask"]),
    }
    clean = plain_loss(case)(batch).loss_sum
    found = EmbeddingMixup().wrap(plain_loss(case), case.model)(whole).loss_sum
    torch.testing.assert_close(found, 2 * clean, rtol=1e-5, atol=0)


def test_what_is_listed_before_it_is_part_of_the_mixed_loss_too(case, batch):
    log_p = mixture(case, batch)
    rows, share = torch.arange(6), batch[SHARE]
    hard = share * log_p[rows, batch["labels"]]
    hard = hard + (1 - share) * log_p[rows, batch["partner.labels"]]
    # the smoothed part belongs to the row's own label, see the module
    own = log_p[rows, batch["labels"]]
    smoothed = -hard.sum() + 0.2 * (own.sum() - log_p.mean(dim=1).sum())
    clean = LabelSmoothing(epsilon=0.2).wrap(plain_loss(case), case.model)(batch)
    run = wrap_all([LabelSmoothing(epsilon=0.2), EmbeddingMixup()], plain_loss(case), case.model)
    torch.testing.assert_close(run(batch).loss_sum, clean.loss_sum + smoothed, rtol=1e-5, atol=0)


def test_partners_and_shares_follow_from_the_seed_and_cover_all_samples():
    draws = [draw_partner(50, alpha=0.4, rng=np.random.default_rng((0, n))) for n in range(2000)]
    again = draw_partner(50, alpha=0.4, rng=np.random.default_rng((0, 7)))
    assert draws[7] == again
    places, shares = zip(*draws, strict=True)
    assert set(places) == set(range(50))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    # Beta(a, a) has variance 1 / (4 (2 a + 1))
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.1)
