"""R-Drop agrees with the formula of the paper, and needs dropout to mean anything."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from ray_sft.core import ConfigError
from ray_sft.objectives import RDrop
from ray_sft.objectives.r_drop import _symmetric_divergence
from ray_sft.tasks import Loss
from tests.factories import tiny_decoder, tiny_encoder
from tests.objectives.shared_dropout import share_dropout


def kl_sum(p_logits, q_logits):
    """KL(p || q) summed over rows, by PyTorch."""
    p, q = log_softmax(p_logits, dim=1), log_softmax(q_logits, dim=1)
    return kl_div(q, p, reduction="sum", log_target=True)


@pytest.fixture
def two_passes():
    torch.manual_seed(0)
    return [(torch.randn(6, 4, dtype=torch.float64) * 2).requires_grad_() for _ in range(2)]


def test_divergence_is_the_mean_of_both_kl(two_passes):
    first, second = two_passes
    expected = 0.5 * (kl_sum(first, second) + kl_sum(second, first))
    found = _symmetric_divergence(first, second)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for one, two in zip(
        torch.autograd.grad(found, two_passes),
        torch.autograd.grad(expected, two_passes),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_divergence_of_equal_passes_is_zero(two_passes):
    assert _symmetric_divergence(two_passes[0], two_passes[0].clone()).item() == 0.0


def test_loss_is_half_of_equation_4_with_twice_the_alpha(two_passes):
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    passes = iter(two_passes)

    def loss_fn(_batch):
        logits = next(passes)
        return Loss(cross_entropy(logits, targets, reduction="sum"), 6, logits, targets)

    found = RDrop(alpha=3.0).wrap(loss_fn, torch.nn.Dropout(0.1))({})
    first, second = two_passes
    nll = cross_entropy(first, targets, reduction="sum") + cross_entropy(
        second, targets, reduction="sum"
    )
    equation_4 = nll + 6.0 * 0.5 * (kl_sum(first, second) + kl_sum(second, first))
    torch.testing.assert_close(found.loss_sum, 0.5 * equation_4, rtol=1e-12, atol=0)
    assert found.logits is first


def test_the_two_passes_drop_different_units():
    model = tiny_encoder(3).train()
    seen = []

    def loss_fn(batch):
        logits = model(**batch).logits
        seen.append(logits.detach())
        targets = torch.zeros(len(logits), dtype=torch.int64)
        return Loss(cross_entropy(logits, targets, reduction="sum"), len(logits), logits, targets)

    torch.manual_seed(5)
    loss = RDrop().wrap(loss_fn, model)({"input_ids": torch.arange(20).view(4, 5) + 10})
    assert len(seen) == 2
    assert (seen[0] - seen[1]).abs().max() > 1e-2
    assert loss.loss_sum > 0


def test_a_model_without_dropout_is_refused():
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM has no dropout.*remove r_drop"):
        RDrop().wrap(lambda _: None, tiny_decoder())


def test_every_kind_of_dropout_counts():
    def unused(_batch):
        raise AssertionError

    decoder = tiny_decoder()
    decoder.model.layers[1].self_attn.attention_dropout = 0.1  # given to a function by its owner
    assert RDrop().wrap(unused, decoder) is not unused
    assert RDrop().wrap(unused, share_dropout(tiny_encoder(2))) is not unused
    with pytest.raises(ConfigError, match="no dropout"):
        RDrop().wrap(unused, share_dropout(tiny_encoder(2), rate=0.0))


def test_alpha_zero_runs_one_pass_and_needs_no_dropout():
    def unused(_batch):
        raise AssertionError

    assert RDrop(alpha=0).wrap(unused, tiny_decoder()) is unused
