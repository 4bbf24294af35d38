"""Distillation: a student learns the answers and the inner states of its teacher.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2:
logits z of the student and v of the teacher become distributions at a temperature T,
q_i = exp(z_i / T) / sum_j exp(z_j / T) (eq. 1), whose cross-entropy is trained beside that of the
right answers. Its gradient falls with 1 / T^2, so it is multiplied by T^2. We take KL(p || q): it
differs from the cross-entropy by the teacher's own entropy, a constant, and is 0 where both agree.

The states of the layers follow Jiao et al. 2020, "TinyBERT", arXiv:1909.10351, eq. 8: the mean
squared error of the outputs of student layer i, times a learned matrix W_h, and of teacher layer
g(i), here the layer at the same share of the depth, so that the last ones meet. The matrix is one
for all layers, lives on the student while it is trained, and is not saved with it. A student as
wide as its teacher, as one is that lost layers or neurons, has none: the spaces are the same.

The relations of queries, keys and values are those of `ray_sft.objectives.relations`; a student of
another width has them too.

All terms are summed over targets. The states of a target are those of its token; where a target
stands for a whole text, the mean over the tokens of the text. Of an embedding's texts only the
first is compared, not its candidates.

Of several teachers the answers are averaged, and the layers of the first are followed.

It is no `Objective` that a recipe may list, since it needs a second model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from pydantic import Field

from ray_sft.core import Config
from ray_sft.models import layers_of
from ray_sft.objectives.input_gradient import hooked
from ray_sft.objectives.relations import (
    num_relation_heads,
    projections_of,
    relation_divergence,
)
from ray_sft.tasks import IGNORED, Loss, LossFn, TensorBatch

__all__ = ["PROJECTION", "Distillation", "tempered_divergence"]

PROJECTION = "distillation_projection"
"""Name of the matrix on a student of another width than its teacher's."""


class Distillation(Config):
    """The loss of a student that has a teacher."""

    temperature: float = Field(default=2.0, gt=0)
    """Logits of both are divided by it: a higher one shows more of the less likely classes."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the teacher's answers; those of the data have the rest."""
    hidden_weight: float = Field(default=1.0, ge=0)
    """Weight of the difference of the layers' outputs; 0 leaves them free."""
    relation_weight: float = Field(default=0.0, ge=0)
    """Weight of the difference of how tokens relate in the last layer; 0 leaves that free."""

    def prepare(self, student: torch.nn.Module, *, teacher_width: int) -> None:
        """Gives ``student`` what is trained beside it; to be called before an engine has it.

        The matrix begins with orthogonal rows or columns, drawn by torch's global generator.
        """
        if self.hidden_weight and _width(student) != teacher_width:
            projection = torch.nn.Linear(_width(student), teacher_width, bias=False)
            torch.nn.init.orthogonal_(projection.weight)
            student.add_module(PROJECTION, projection)

    def joined(self, teacher_loss_fns: Sequence[LossFn]) -> LossFn:
        """The loss of several teachers as that of one.

        Its logits are those whose distribution at the temperature is the mean of the teachers'
        (Hinton et al. 2015, section 5.1, of an ensemble: their arithmetic mean).
        """
        if len(teacher_loss_fns) == 1:
            return teacher_loss_fns[0]

        def run(batch: TensorBatch) -> Loss:
            losses = [loss_fn(batch) for loss_fn in teacher_loss_fns]
            tempered_KNC = torch.stack(
                [(loss.logits / self.temperature).log_softmax(dim=1) for loss in losses]
            )
            mean_NC = tempered_KNC.logsumexp(dim=0) - math.log(len(losses))
            return replace(losses[0], logits=self.temperature * mean_NC)

        return run

    def wrap(
        self,
        loss_fn: LossFn,
        module: torch.nn.Module,
        *,
        teacher_loss_fn: LossFn,
        teacher: torch.nn.Module,
        labels_tokens: bool,
    ) -> LossFn:
        """``loss_fn`` of the student with the teacher's terms.

        Args:
            loss_fn: runs the student under whatever engine trains it.
            module: the student without that engine, as `prepare` left it.
            teacher_loss_fn: the same loss of the teacher, which is run without gradients.
            teacher: the model that ``teacher_loss_fn`` runs, in evaluation mode.
            labels_tokens: see `ray_sft.tasks.Task`.

        Raises:
            ConfigError: one of the models has no layers, or its queries, keys and values are to be
                compared and not found.
        """
        if self.alpha == self.hidden_weight == self.relation_weight == 0:
            return loss_fn
        terms = self._terms(module, teacher)

        def distilled(batch: TensorBatch) -> Loss:
            with torch.no_grad(), _noted([term.others for term in terms]) as given:
                wanted = teacher_loss_fn(batch)
            with _noted([term.mine for term in terms]) as made:
                loss = loss_fn(batch)
            loss_sum = (1 - self.alpha) * loss.loss_sum
            divergence = tempered_divergence(
                wanted.logits, loss.logits, temperature=self.temperature
            )
            loss_sum = loss_sum + self.alpha * self.temperature**2 * divergence
            if not terms:
                return replace(loss, loss_sum=loss_sum)
            weights_BT = _target_weights(
                batch, width=made[0][0].shape[1], labels_tokens=labels_tokens
            )
            for term, theirs, mine in zip(terms, given, made, strict=True):
                loss_sum = loss_sum + term.weight * term.difference(theirs, mine, batch, weights_BT)
            return replace(loss, loss_sum=loss_sum)

        return distilled

    def _terms(self, student: torch.nn.Module, teacher: torch.nn.Module) -> list["_Term"]:
        """What is compared beside the answers."""
        terms = []
        if self.hidden_weight:
            mine, others = _matched(student, teacher)
            project = getattr(student, PROJECTION, torch.nn.Identity())
            terms.append(
                _Term(self.hidden_weight, mine, others, partial(_difference, project=project))
            )
        if self.relation_weight:
            my_parts, other_parts = projections_of(student), projections_of(teacher)
            num_heads = num_relation_heads((*my_parts, *other_parts), at_most=_num_heads(teacher))
            divergence = partial(relation_divergence, num_heads=num_heads)
            terms.append(_Term(self.relation_weight, my_parts, other_parts, divergence))
        return terms


@dataclass(frozen=True, slots=True)
class _Term:
    """Parts of the student, those of the teacher that they follow, and how they are compared."""

    weight: float
    mine: Sequence[torch.nn.Module]
    others: Sequence[torch.nn.Module]
    difference: Callable[
        [Sequence[torch.Tensor], Sequence[torch.Tensor], TensorBatch, torch.Tensor], torch.Tensor
    ]
    """Of the outputs of the teacher's parts and of the student's, summed over weighted tokens."""


def _matched(
    student: torch.nn.Module, teacher: torch.nn.Module
) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """Layers of the student, and those of the teacher that they follow."""
    mine, others = list(layers_of(student)), list(layers_of(teacher))
    ends = [len(others) * (number + 1) // len(mine) for number in range(len(mine))]
    return mine, [others[max(end, 1) - 1] for end in ends]


def _width(module: torch.nn.Module) -> int:
    config: Any = module.config
    return int(config.hidden_size)


def _num_heads(module: torch.nn.Module) -> int:
    config: Any = module.config
    return int(config.num_attention_heads)


@contextmanager
def _noted(groups: Sequence[Sequence[torch.nn.Module]]) -> Iterator[list[list[torch.Tensor]]]:
    """What the modules of each group return within the context, in the order of their runs."""
    noted: list[list[torch.Tensor]] = [[] for _ in groups]
    with ExitStack() as stack:
        for group, states in zip(groups, noted, strict=True):
            stack.enter_context(hooked(group, _append_to(states)))
        yield noted


def _append_to(states: list[torch.Tensor]) -> Any:
    """A hook that notes what a layer returns."""

    def note(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        states.append(output if isinstance(output, torch.Tensor) else output[0])

    return note


def tempered_divergence(
    teacher_NC: torch.Tensor, student_NC: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """KL(teacher || student) of the distributions at a temperature, summed over targets, in nats.

    Args:
        teacher_NC: logits, (targets, classes).
        student_NC: logits of the same targets and classes.
        temperature: both are divided by it.
    """
    teacher_NC = (teacher_NC / temperature).log_softmax(dim=1)
    student_NC = (student_NC / temperature).log_softmax(dim=1)
    return torch.nn.functional.kl_div(student_NC, teacher_NC, reduction="sum", log_target=True)


def _target_weights(batch: TensorBatch, *, width: int, labels_tokens: bool) -> torch.Tensor:
    """The share of each token in the targets, (batch, width): a row's sum is its targets.

    The first token of a row counts for none: predicted from nothing, it is no target where packed.
    """
    labels = batch["labels"]
    if labels_tokens:
        weights_BT = (labels != IGNORED).float()
        weights_BT[:, 0] = 0.0
    else:
        mask_BT = batch["attention_mask"].float()
        weights_BT = mask_BT / mask_BT.sum(dim=1, keepdim=True)
        num_targets_B = (labels != IGNORED).reshape(len(labels), -1).sum(dim=1)
        weights_BT = weights_BT * num_targets_B.float()[:, None]
    return torch.nn.functional.pad(weights_BT, (0, width - weights_BT.shape[1]))


def _difference(
    teacher: Sequence[torch.Tensor],
    student: Sequence[torch.Tensor],
    batch: TensorBatch,
    weights_BT: torch.Tensor,
    *,
    project: torch.nn.Module,
) -> torch.Tensor:
    """The mean squared error over layers and dimensions, summed over targets."""
    del batch
    assert len(teacher) == len(student), (len(teacher), len(student))
    num_rows = len(weights_BT)
    errors = [
        (one[:num_rows].float() - project(two[:num_rows].float()).float()).square().mean(dim=-1)
        for one, two in zip(teacher, student, strict=True)
    ]
    return (torch.stack(errors).mean(dim=0) * weights_BT).sum()
