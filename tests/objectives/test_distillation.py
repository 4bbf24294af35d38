"""Distillation against the papers' formulas, and the laws of a loss."""

import copy

import numpy as np
import pytest
import torch

from ray_sft.core import ConfigError
from ray_sft.models import HeadView, layers_of, use_segmented_attention
from ray_sft.objectives import PROJECTION, Distillation
from ray_sft.objectives.distillation import _matched
from ray_sft.objectives.relations import num_relation_heads, projections_of
from ray_sft.tasks import Embedding, Loss
from tests.factories import (
    TASKS,
    CausalLanguageModel,
    SequenceClassification,
    TokenClassification,
    tiny_encoder_config,
    tiny_headed,
)

TASK_TYPES = (SequenceClassification, TokenClassification, CausalLanguageModel)
EVERY_TERM = Distillation(relation_weight=1.0)


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def changed(model):
    """A student: the same model with other weights."""
    student = copy.deepcopy(model)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return student.eval()


class World:
    """A teacher and a student of one task, and its rows."""

    def __init__(self, kind):
        self.case = TASKS[kind]()
        self.task, self.teacher = self.case.task, self.case.model
        self.student = changed(self.teacher)
        self.examples = self.task.encode(self.case.rows, self.case.processor)

    def loss(self, distillation, batch) -> Loss:
        run = distillation.wrap(
            lambda given: self.task.loss(self.student, given),
            self.student,
            teacher_loss_fn=lambda given: self.task.loss(self.teacher, given),
            teacher=self.teacher,
            labels_tokens=self.task.labels_tokens,
        )
        return run(tensors(batch))

    def batch(self, *rows):
        return self.task.collate([self.examples[row] for row in rows], self.case.processor)

    def hidden(self, model, batch):
        """By transformers itself: the outputs of all layers, (layers, batch, tokens, dim)."""
        given = {name: tensor for name, tensor in tensors(batch).items() if name != "labels"}
        seen = []
        hooks = [
            layer.register_forward_hook(lambda _m, _i, output: seen.append(output))
            for layer in layers_of(model)
        ]
        with torch.no_grad():
            model(**given)
        for hook in hooks:
            hook.remove()
        return torch.stack(seen).numpy()


@pytest.fixture(scope="module", params=TASK_TYPES, ids=lambda kind: kind.__name__)
def world(request) -> World:
    return World(request.param)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_answers_term_is_that_of_hinton(world):
    batch = world.batch(0, 1, 2)
    with torch.no_grad():
        mine = world.task.loss(world.student, tensors(batch))
        theirs = world.task.loss(world.teacher, tensors(batch))
    q = softmax(mine.logits.numpy().astype(np.float64) / 3.0)
    p = softmax(theirs.logits.numpy().astype(np.float64) / 3.0)
    divergence = 9.0 * (p * (np.log(p) - np.log(q))).sum()
    found = world.loss(Distillation(temperature=3.0, alpha=0.4, hidden_weight=0), batch)
    assert divergence > 0.1
    assert found.loss_sum.item() == pytest.approx(
        0.6 * mine.loss_sum.item() + 0.4 * divergence, rel=1e-4
    )
    assert found.num_targets == mine.num_targets
    assert torch.equal(found.targets, mine.targets)


def test_the_layers_term_is_the_squared_error_at_the_targets(world):
    batch = world.batch(0, 1, 2)
    difference = world.hidden(world.teacher, batch) - world.hidden(world.student, batch)
    errors_BT = (difference.astype(np.float64) ** 2).mean(axis=(0, 3))
    expected = 0.0
    for row, errors in enumerate(errors_BT):
        if batch["labels"].ndim == 1:
            expected += errors[batch["attention_mask"][row] == 1].mean()
        else:
            expected += errors[1:][batch["labels"][row, 1:] != -100].sum()
    plain = world.loss(Distillation(alpha=0, hidden_weight=1e-9), batch).loss_sum.item()
    found = world.loss(Distillation(alpha=0, hidden_weight=2.0), batch).loss_sum.item()
    assert expected > 0.1
    assert found - plain == pytest.approx(2.0 * expected, rel=1e-3)


def relations(vectors, num_heads):
    """softmax(X X^T / sqrt(d)) of each head of one text, (heads, tokens, tokens)."""
    heads = np.split(vectors.astype(np.float64), num_heads, axis=1)
    return np.stack([softmax(x @ x.T / np.sqrt(x.shape[1])) for x in heads])


def test_the_relations_term_is_that_of_minilmv2(world):
    """Text by text without padding, from what the projections return to transformers alone."""
    batch, expected = world.batch(0, 1, 2), 0.0
    num_heads = world.teacher.config.num_attention_heads
    if isinstance(world.task, CausalLanguageModel):
        num_heads = 4  # of 4 heads' queries and 2 heads' keys; both can be cut into 4
    for row in range(3):
        alone = world.batch(row)
        pairs = zip(projected(world.teacher, alone), projected(world.student, alone), strict=True)
        for theirs, mine in pairs:
            p, q = relations(theirs, num_heads), relations(mine, num_heads)
            divergence_T = (p * (np.log(p) - np.log(q))).sum(axis=2).mean(axis=0)
            if alone["labels"].ndim == 1:
                expected += divergence_T.mean() / 3
            else:
                expected += divergence_T[1:][alone["labels"][0, 1:] != -100].sum() / 3
    plain = world.loss(Distillation(alpha=1e-9, hidden_weight=0), batch).loss_sum.item()
    found = world.loss(
        Distillation(alpha=1e-9, hidden_weight=0, relation_weight=500.0), batch
    ).loss_sum.item()
    assert expected > 1e-4
    assert (found - plain) / 500 == pytest.approx(expected, rel=2e-2)


def projected(model, batch):
    """Queries, keys and values of a row's last layer, each (tokens, width)."""
    seen = []
    hooks = [
        part.register_forward_hook(lambda _m, _i, output: seen.append(output[0].numpy()))
        for part in projections_of(model)
    ]
    given = {name: tensor for name, tensor in tensors(batch).items() if name != "labels"}
    with torch.no_grad():
        model(**given)
    for hook in hooks:
        hook.remove()
    return seen


def test_a_narrower_student_learns_relations():
    world = World(SequenceClassification)
    config = tiny_encoder_config(6)
    config.hidden_size, config.num_attention_heads = 24, 2
    world.student = type(world.teacher)(config).eval()
    distillation = Distillation(hidden_weight=0, relation_weight=1.0)
    world.loss(distillation, world.batch(0, 1)).loss_sum.backward()
    key = projections_of(world.student)[1]
    assert key.weight.grad.abs().sum() > 0


def test_heads_are_the_most_that_every_width_has_room_for():
    def widths(*sizes):
        return [torch.nn.Linear(2, size) for size in sizes]

    assert num_relation_heads(widths(384, 384, 312), at_most=12) == 12
    assert num_relation_heads(widths(384, 320), at_most=12) == 8
    assert num_relation_heads(widths(7, 5), at_most=12) == 1


def test_a_model_of_other_names_is_refused_where_relations_are_compared():
    with pytest.raises(ConfigError, match=r"queries, keys and values in Fused.*relation_weight: 0"):
        projections_of(Fused())


class Fused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = tiny_encoder_config(2)
        self.config.num_hidden_layers = 1
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 12)])


def test_a_student_that_equals_its_teacher_has_only_the_task_to_learn(world):
    world_of_one = World(type(world.task))
    world_of_one.student = world_of_one.teacher
    batch = world_of_one.batch(0, 1)
    plain = world_of_one.task.loss(world_of_one.teacher, tensors(batch)).loss_sum.item()
    found = world_of_one.loss(Distillation(alpha=0.25, relation_weight=1.0), batch).loss_sum.item()
    assert found == pytest.approx(0.75 * plain, rel=1e-5)


def test_the_loss_does_not_depend_on_how_rows_are_batched(world):
    whole = world.loss(EVERY_TERM, world.batch(0, 1, 2)).loss_sum.item()
    parts = sum(world.loss(EVERY_TERM, world.batch(row)).loss_sum.item() for row in range(3))
    assert whole == pytest.approx(parts, rel=1e-4)


def test_the_loss_does_not_depend_on_packing():
    world = World(CausalLanguageModel)
    padded = world.loss(EVERY_TERM, world.batch(0, 1, 2)).loss_sum.item()
    use_segmented_attention(world.teacher)
    use_segmented_attention(world.student)
    batch = world.task.pack([world.examples[:2], world.examples[2:3]], world.case.processor)
    assert world.loss(EVERY_TERM, batch).loss_sum.item() == pytest.approx(padded, rel=1e-4)


def test_without_targets_every_term_is_zero_and_still_reaches_the_weights(world):
    world.student.zero_grad()
    loss = world.loss(EVERY_TERM, world.task.without_targets(world.batch(1)))
    assert loss.loss_sum.item() == 0.0
    loss.loss_sum.backward()
    gradients = [parameter.grad for parameter in world.student.parameters()]
    assert not any(gradient.any() for gradient in gradients if gradient is not None)
    assert sum(gradient is not None for gradient in gradients) > len(gradients) / 2
    world.student.zero_grad()


def test_the_teacher_is_not_trained(world):
    world.loss(EVERY_TERM, world.batch(0)).loss_sum.backward()
    assert all(parameter.grad is None for parameter in world.teacher.parameters())


def test_without_weights_it_is_the_loss_itself(world):
    def plain(batch):
        return world.task.loss(world.student, batch)

    nothing = Distillation(alpha=0, hidden_weight=0)
    same = nothing.wrap(
        plain,
        world.student,
        teacher_loss_fn=plain,
        teacher=world.teacher,
        labels_tokens=world.task.labels_tokens,
    )
    assert same is plain


def test_an_embedding_is_distilled_by_similarities_and_its_own_text():
    task = Embedding(max_length=64, temperature=0.5)
    case = TASKS[Embedding]()
    teacher = tiny_headed({"vector": task})
    student = changed(teacher)
    run = EVERY_TERM.wrap(
        lambda batch: task.loss(HeadView(student, "vector"), batch),
        student,
        teacher_loss_fn=lambda batch: task.loss(HeadView(teacher, "vector"), batch),
        teacher=teacher,
        labels_tokens=task.labels_tokens,
    )
    examples = task.encode(case.rows, case.processor)
    whole = run(tensors(task.collate(examples, case.processor))).loss_sum.item()
    parts = [run(tensors(task.collate([one], case.processor))).loss_sum.item() for one in examples]
    assert whole == pytest.approx(sum(parts), rel=1e-4)


def test_layers_are_matched_by_their_share_of_the_depth():
    config = tiny_encoder_config(2)
    config.num_hidden_layers = 3
    deep = type(World(SequenceClassification).teacher)
    student = deep(config)
    deeper = tiny_encoder_config(2)
    deeper.num_hidden_layers = 6
    teacher = deep(deeper)
    _, matched = _matched(student, teacher)
    assert [list(layers_of(teacher)).index(layer) for layer in matched] == [1, 3, 5]


def test_states_of_a_narrower_student_are_compared_through_a_learned_matrix():
    """Eq. 8 of TinyBERT by NumPy, and the matrix is what a student of the same width has not."""
    world = World(SequenceClassification)
    config = tiny_encoder_config(6)
    config.hidden_size = 16
    world.student = type(world.teacher)(config).eval()
    distillation = Distillation(alpha=0, hidden_weight=1.0)
    distillation.prepare(world.student, teacher_width=32)
    matrix = world.student.get_submodule(PROJECTION).weight
    assert matrix.shape == (32, 16)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(16), atol=1e-5, rtol=0)
    batch = world.batch(0, 1, 2)
    mine, theirs = (world.hidden(model, batch) for model in (world.student, world.teacher))
    errors_BT = ((mine @ matrix.detach().numpy().T - theirs) ** 2).mean(axis=(0, 3))
    mask = batch["attention_mask"]
    expected = (errors_BT * mask).sum(axis=1) / mask.sum(axis=1)
    plain = world.task.loss(world.student, tensors(batch)).loss_sum.item()
    loss = world.loss(distillation, batch)
    assert loss.loss_sum.item() - plain == pytest.approx(expected.sum(), rel=1e-4)
    loss.loss_sum.backward()
    assert matrix.grad.abs().sum() > 0


def test_several_teachers_answer_with_the_mean_of_their_distributions():
    torch.manual_seed(0)
    every = [torch.randn(5, 4) * 3 for _ in range(3)]
    losses = [Loss(torch.tensor(0.0), 5, logits, torch.arange(5) % 4) for logits in every]
    distillation = Distillation(temperature=2.5)
    joined = distillation.joined([lambda _, loss=loss: loss for loss in losses])
    found = joined({}).logits.numpy().astype(np.float64)
    expected = np.mean([softmax(one.numpy().astype(np.float64) / 2.5) for one in every], axis=0)
    np.testing.assert_allclose(softmax(found / 2.5), expected, rtol=1e-5)
    assert distillation.joined([len]) is len


def test_only_a_student_of_another_width_has_a_matrix():
    world = World(SequenceClassification)
    for distillation, width in ((Distillation(), 32), (Distillation(hidden_weight=0), 16)):
        distillation.prepare(world.student, teacher_width=width)
        assert not hasattr(world.student, PROJECTION)


def test_a_model_without_a_list_of_layers_is_named():
    with pytest.raises(ConfigError, match="Linear has no list of None layers"):
        layers_of(torch.nn.Linear(2, 2))
