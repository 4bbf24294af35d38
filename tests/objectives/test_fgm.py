"""FGM agrees with its equations computed the long way round, and touches activations alone."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import T5Config, T5ForConditionalGeneration

from ray_sft.core import ConfigError
from ray_sft.models import Lora, use_segmented_attention
from ray_sft.objectives import Fgm, RDrop, wrap_all
from ray_sft.objectives.embedded_input import ascended
from ray_sft.objectives.input_gradient import hooked
from ray_sft.tasks import Loss
from tests.factories import (
    TASKS,
    TaskCase,
    causal_language_model,
    sequence_classification,
    tiny_encoder,
)
from tests.objectives.embedded import (
    STOCK,
    Inputs,
    batch_of,
    embedded_inputs,
    plain_loss,
    tensors,
)
from tests.objectives.shared_dropout import share_dropout

EPSILON = 0.7


def _perturbation(gradient, positions, *, epsilon):
    (delta,) = ascended((), [gradient], positions, step_size=epsilon, epsilon=epsilon)
    return delta


@pytest.fixture(params=STOCK, ids=lambda kind: kind.__name__)
def case(request) -> TaskCase:
    return TASKS[request.param]()


def test_equals_equations_5_and_6_computed_from_embedded_inputs(case):
    batch = batch_of(case)
    embedded = case.model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    clean = case.task.loss(Inputs(case.model, embedded), batch).loss_sum
    (gradient,) = torch.autograd.grad(clean, embedded)
    length = gradient.flatten(1).norm(dim=1)[:, None, None]
    moved = (embedded + EPSILON * gradient / length).detach()
    adversarial = case.task.loss(Inputs(case.model, moved), batch).loss_sum
    found = Fgm(epsilon=EPSILON, weight=0.6).wrap(plain_loss(case), case.model)(batch)
    torch.testing.assert_close(found.loss_sum, clean + 0.6 * adversarial, rtol=1e-5, atol=0)
    assert adversarial > 1.01 * clean


def test_each_sequence_moves_by_epsilon(case):
    batch = batch_of(case)
    run = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)
    probe, clean, moved = embedded_inputs(case.model, lambda: run(batch))
    torch.testing.assert_close(probe, clean, rtol=0, atol=0)
    lengths = (moved - clean).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, EPSILON), rtol=1e-4, atol=0)


def test_packed_sequences_have_norms_of_their_own():
    """Packed and padded rows have the same loss; one norm per row would miss by far."""
    case = causal_language_model()
    examples = case.task.encode(case.rows, case.processor)
    groups = [examples[:3], examples[3:]]
    padded = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)(batch_of(case))
    use_segmented_attention(case.model)
    run = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)
    packed = run(tensors(case.task.pack(groups, case.processor)))
    assert packed.num_targets == padded.num_targets
    torch.testing.assert_close(packed.loss_sum, padded.loss_sum, rtol=1e-5, atol=0)


def test_perturbation_has_length_epsilon_in_each_sequence():
    torch.manual_seed(0)
    gradient = torch.randn(2, 7, 3)
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 2, 3, 4]])
    delta = _perturbation(gradient, positions, epsilon=2.5)
    for row, spans in ((0, ((0, 3), (3, 5), (5, 7))), (1, ((0, 1), (1, 2), (2, 7)))):
        for begin, end in spans:
            part, whole = delta[row, begin:end], gradient[row, begin:end]
            expected = 2.5 * whole / whole.norm()
            torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 2, 5, 4)], ids=["tokens", "pixels"])
def test_perturbation_of_a_row_without_positions(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    delta = _perturbation(gradient, torch.zeros(3, 9, dtype=torch.int64), epsilon=0.5)
    lengths = delta.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), 0.5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e30], ids=["tiny", "denormal", "huge"])
def test_perturbation_is_no_longer_than_epsilon_however_small_the_gradient(scale):
    gradient = torch.tensor([[[3.0, 4.0]]]) * scale
    delta = _perturbation(gradient, None, epsilon=1.0)
    torch.testing.assert_close(delta, torch.tensor([[[0.6, 0.8]]]), rtol=1e-3, atol=0)


def test_perturbation_without_a_gradient_is_zero():
    assert not _perturbation(torch.zeros(2, 3, 4), None, epsilon=1.0).any()


def test_all_passes_drop_the_same_units():
    """The clean pass is what it would be without FGM, and the next draw is too."""
    case = sequence_classification()
    model = case.model.train()
    batch = batch_of(case)
    torch.manual_seed(3)
    plain = plain_loss(case)(batch)
    following = torch.rand(4)
    torch.manual_seed(3)
    tiny_step = Fgm(epsilon=1e-6).wrap(plain_loss(case), model)(batch)
    torch.testing.assert_close(torch.rand(4), following, rtol=0, atol=0)
    torch.testing.assert_close(tiny_step.logits, plain.logits, rtol=0, atol=0)
    torch.testing.assert_close(tiny_step.loss_sum, 2 * plain.loss_sum, rtol=1e-4, atol=0)


def test_parameters_and_their_gradients_are_not_touched(case):
    before = {name: weight.clone() for name, weight in case.model.state_dict().items()}
    Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)(batch_of(case))
    assert all(torch.equal(before[name], w) for name, w in case.model.state_dict().items())
    assert all(parameter.grad is None for parameter in case.model.parameters())


def test_frozen_embeddings_are_perturbed_too():
    """Under an adapter nothing before its layers needs a gradient."""
    case = causal_language_model()
    batch = batch_of(case)
    expected = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)(batch).loss_sum
    Lora(rank=2).inject(case.model, {"chat": case.task}, case.processor)
    assert not case.model.get_input_embeddings().weight.requires_grad
    loss = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)(batch)
    torch.testing.assert_close(loss.loss_sum, expected, rtol=1e-5, atol=0)
    loss.loss_sum.backward()
    trained = [p for p in case.model.parameters() if p.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


def test_encoder_and_decoder_are_both_perturbed():
    """Each has an embedding module of its own; they share the table."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    model = T5ForConditionalGeneration(config)
    batch = {
        "input_ids": torch.randint(1, 50, (3, 6)),
        "decoder_input_ids": torch.randint(1, 50, (3, 4)),
    }
    targets = torch.randint(0, 50, (12,))
    seen = []

    def see_embedded(part, _inputs, output):
        if isinstance(part, torch.nn.Embedding) and part.num_embeddings == config.vocab_size:
            seen.append(output.detach())

    def loss_fn(inputs):
        with hooked(list(model.modules()), see_embedded):
            logits = model(**inputs).logits.flatten(0, 1)
        return Loss(cross_entropy(logits, targets, reduction="sum"), 12, logits, targets)

    Fgm(epsilon=EPSILON).wrap(loss_fn, model)(batch)
    assert len(seen) == 6
    for clean, moved in ((seen[2], seen[4]), (seen[3], seen[5])):
        lengths = (moved - clean).flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((3,), EPSILON), rtol=1e-4, atol=0)


def test_around_r_drop_each_of_its_passes_has_a_perturbation_of_its_own():
    model = share_dropout(tiny_encoder(3))
    batch = {"input_ids": torch.arange(20).view(4, 5) + 10}
    targets = torch.tensor([0, 1, 2, 0])

    def loss_fn(inputs):
        logits = model(**inputs).logits
        return Loss(cross_entropy(logits, targets, reduction="sum"), 4, logits, targets)

    run = wrap_all([RDrop(alpha=1.0), Fgm(epsilon=EPSILON)], loss_fn, model)
    torch.manual_seed(0)
    seen = embedded_inputs(model, lambda: run(batch))
    assert len(seen) == 6
    one, two = seen[4] - seen[2], seen[5] - seen[3]
    assert (one - two).abs().max() > 1e-3
    for delta in (one, two):
        lengths = delta.flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((4,), EPSILON), rtol=1e-4, atol=0)


def test_a_model_that_names_no_embedded_input_is_refused():
    with pytest.raises(ConfigError, match=r"Linear does not tell.*Remove fgm"):
        Fgm().wrap(lambda _: None, torch.nn.Linear(2, 2))


def test_a_model_that_does_not_use_its_embedding_is_refused():
    class Elsewhere(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.linear = torch.nn.Embedding(3, 2), torch.nn.Linear(2, 2)

        def get_input_embeddings(self):
            return self.embedding

        def forward(self, hidden):
            return self.linear(hidden)

    model = Elsewhere()

    def loss_fn(batch):
        logits = model(batch["hidden"])
        return Loss(logits.sum(), 1, logits, torch.tensor([0]))

    with pytest.raises(ConfigError, match=r"Elsewhere does not use its Embedding"):
        Fgm().wrap(loss_fn, model)({"hidden": torch.ones(1, 2)})
