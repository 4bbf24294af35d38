"""EWC: weights that earlier rows depend on are held where they were.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
arXiv:1612.00796, eq. 3: L(w) = L_new(w) + sum_i lambda / 2 F_i (w_i - w*_i)^2, with w* the weights
that learned the earlier rows and F the diagonal of their Fisher information there.

L_new and F are means over targets here, so that lambda is how much an earlier target counts beside
a new one; in the paper's derivation it is their ratio in number.

Deviations:

- After several trainings there is one penalty, with F of the rows of all of them at the weights
  that the last one has left, as Schwarz et al. 2018 argue (arXiv:1805.06370, section 3.2), and not
  one for each.
- Weights that did not exist, such as those of new labels, are free.

The penalty is computed by hooks where a module runs: under ZeRO 3 its parameters are whole there
and nowhere else. It belongs outside of all objectives, which may run the model several times:
it is that of the last run, since only its graph is walked before the parameters are let go.

It is no `Objective` that a recipe may list, since it needs to know the earlier training.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field

from ray_sft.core import Config, ConfigError
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["Ewc"]


class Ewc(Config):
    """Holds weights by how much earlier answers depend on them."""

    weight: float = Field(default=1.0, ge=0)
    """What an earlier target counts beside a new one; 0 changes nothing."""
    rows: int = Field(default=256, ge=1)
    """Earlier rows of each task whose answers are looked at, each by a pass of its own."""

    def wrap(
        self,
        loss_fn: LossFn,
        module: torch.nn.Module,
        *,
        anchors: Mapping[str, torch.Tensor],
        fisher: Mapping[str, torch.Tensor],
    ) -> LossFn:
        """``loss_fn`` and, for each of its targets, the penalty.

        Args:
            loss_fn: runs the model under whatever engine trains it.
            module: the model without that engine; its parameters may be partitioned.
            anchors: the weights to hold to, whole, by the names of the module's parameters.
            fisher: what each of them counts, in the shapes of ``anchors``; others are free.

        Raises:
            ConfigError: at the first call, where a weight to hold is used in no module's forward.
        """
        if self.weight == 0:
            return loss_fn
        owners = _owners(module, fisher)

        def held(batch: TensorBatch) -> Loss:
            terms: dict[str, torch.Tensor] = {}

            def note(part: torch.nn.Module, _inputs: Any, _output: Any) -> None:
                if not torch.is_grad_enabled():
                    return
                for own, name in owners[part].items():
                    terms[name] = _penalty(getattr(part, own), anchors[name], fisher[name])

            with ExitStack() as stack:
                for part in owners:  # first of all hooks: others may let go of the parameters
                    stack.enter_context(part.register_forward_hook(note, prepend=True))
                loss = loss_fn(batch)
            _check_all_seen(fisher, terms)
            penalty = self.weight / 2 * torch.stack(list(terms.values())).sum()
            return replace(loss, loss_sum=loss.loss_sum + loss.num_targets * penalty)

        return held


class _Penalty(torch.autograd.Function):
    """sum_i F_i (w_i - w*_i)^2, with its own way back.

    It keeps its slope by itself: what a layer gives torch to keep is thrown away and asked for
    again where its activations are checkpointed, and then no hook runs.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, anchor: torch.Tensor, fisher: torch.Tensor
    ) -> torch.Tensor:
        moved = weight.float() - anchor
        ctx.slope = (2 * fisher * moved).to(weight.dtype)
        return (fisher * moved.square()).sum()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient * ctx.slope, None, None


def _penalty(weight: torch.Tensor, anchor: torch.Tensor, fisher: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Penalty.apply(weight, anchor, fisher)  # type: ignore[no-untyped-call] # torch's
    return found


def _owners(
    module: torch.nn.Module, names: Mapping[str, torch.Tensor]
) -> dict[torch.nn.Module, dict[str, str]]:
    """By module, its own parameters to hold: the name there and the name in the whole."""
    owners: dict[torch.nn.Module, dict[str, str]] = {}
    for prefix, part in module.named_modules():
        for own, _ in part.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if name in names:
                owners.setdefault(part, {})[own] = name
    return owners


def _check_all_seen(names: Mapping[str, torch.Tensor], seen: Mapping[str, torch.Tensor]) -> None:
    if missing := sorted(set(names) - set(seen)):
        raise ConfigError(
            f"continual.ewc cannot hold '{missing[0]}': the module that owns it does not run by "
            "itself. Leave ewc out, and use replay."
        )
