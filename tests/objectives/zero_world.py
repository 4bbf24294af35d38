"""Objectives around a real engine in two processes: gradients of steps, and what FGM did."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_sft.models import (
    Adapter,
    HeadedEncoder,
    HeadView,
    checkpoint_activations,
    use_segmented_attention,
)
from ray_sft.objectives import Ewc, Fgm, Objective, neftune, wrap_all
from ray_sft.tasks import Batch, LossFn, Task
from ray_sft.training import Train
from ray_sft.training.engine import Engine
from tests.factories import ADAPTERS, LABELS, tiny_processor
from tests.objectives.shared_dropout import share_dropout, shared_noise

SEED = 5
ADAPTER_OF = {make().kind: make() for make in ADAPTERS.values()}
DIM = 128
"""A matrix of so many rows and columns is above the size at which stage 3 keeps weights whole."""


class Held(Ewc):
    """EWC as if it were listed: held to other weights than the start, so that it pulls."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        shapes = {
            name: tuple(getattr(parameter, "ds_shape", parameter.shape))
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        drawn = {name: drawn_for(name, (2, *shape)) for name, shape in shapes.items()}
        return super().wrap(
            loss_fn,
            module,
            anchors={name: 0.1 * both[0] for name, both in drawn.items()},
            fisher={name: both[1].square() for name, both in drawn.items()},
        )


def drawn_for(name: str, shape: Sequence[int]) -> torch.Tensor:
    """Normal numbers, always the same for a name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator)


@dataclass(frozen=True)
class Scene:
    """One engine, and the steps it takes; each of them starts from the same weights."""

    name: str
    kind: str
    task: Task
    stage: int
    precision: str
    objectives: dict[str, tuple[Objective | Held, ...]]
    cuts: dict[str, tuple[Batch, ...]]
    """By name, the micro-batches of a step; rank r of n runs those at r, r + n, ..."""


def build(kind: str, task: Task) -> torch.nn.Module:
    """The same weights on every rank and in the plain run."""
    torch.manual_seed(0)
    if kind in ("decoder", "packed", "checkpointed_decoder"):
        module = LlamaForCausalLM(_decoder_config(tied=kind == "decoder"))
    elif kind == "heads":
        module = HeadedEncoder(BertModel(_encoder_config()), {"vector": task})
    else:
        module = BertForSequenceClassification(_encoder_config())
    if kind in ADAPTER_OF:
        ADAPTER_OF[kind].inject(module, {"intent": task}, _processor(ADAPTER_OF[kind]))
        for name, parameter in module.named_parameters():
            if "lora_B" in name:  # zeros at first, and then lora_A has no gradient
                torch.nn.init.normal_(parameter, std=0.1)
    if kind.startswith("checkpointed"):
        checkpoint_activations(module)
    return share_dropout(module)


def _processor(adapter: Adapter) -> Any:
    """One to which the tokens that an adapter trains are words of the rows."""
    vocabulary = tiny_processor().get_vocab()
    named = {token: 20 + number for number, token in enumerate(adapter.trained_tokens())}
    return SimpleNamespace(get_vocab=lambda: vocabulary | named)


def _encoder_config() -> BertConfig:
    return BertConfig(
        vocab_size=len(tiny_processor()),
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * DIM,
        num_labels=len(LABELS),
        initializer_range=0.1,
    )


def _decoder_config(*, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tiny_processor()),
        hidden_size=DIM,
        intermediate_size=2 * DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=tied,
    )


def loss_fn(task: Task, module: torch.nn.Module, kind: str) -> Any:
    model = HeadView(module, "vector") if kind == "heads" else module
    return lambda batch: task.loss(model, batch)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def global_targets(task: Task, batches: Sequence[Batch]) -> int:
    return sum(task.num_targets(batch) for batch in batches)


class Anchored(torch.optim.Optimizer):
    """Always steps from where it began, so that weights end at the start minus a gradient."""

    def __init__(self, groups, lr, **_):
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                start = self.state[parameter].setdefault("start", parameter.clone())
                if parameter.grad is not None:
                    parameter.copy_(start - group["lr"] * parameter.grad)


def run_scenes(rank: int, world_size: int, scenes: Sequence[Scene], out_dir: Path) -> None:
    """Saves the report of every scene and rank."""
    torch.set_num_threads(1)
    torch.optim.AdamW = Anchored
    neftune.uniform = shared_noise
    for scene in scenes:
        report = _run_scene(scene, rank, world_size)
        torch.save(report, out_dir / f"{scene.name}-{rank}.pt")


def _run_scene(scene: Scene, rank: int, world_size: int) -> dict[str, Any]:
    train = Train(zero_stage=scene.stage, gradient_accumulation=2, max_gradient_norm=0.0)
    module = build(scene.kind, scene.task)
    if scene.kind == "packed":
        use_segmented_attention(module)
    engine = Engine(module, train, precision=scene.precision, world_size=world_size)
    engine.module.train()
    start = engine.full_state_dict()
    plain = loss_fn(scene.task, engine.module, scene.kind)
    report: dict[str, Any] = {"gradients": {}, "losses": {}, "passes": []}
    report["partitioned"] = sum(
        not getattr(parameter, "ds_persist", True) for parameter in module.parameters()
    )
    for name, objectives in scene.objectives.items():
        run = wrap_all(objectives, plain, engine.bare_module)
        for cut, batches in scene.cuts.items():
            total = global_targets(scene.task, batches)
            loss_sum = 0.0
            for batch in batches[rank::world_size]:
                torch.manual_seed(SEED)
                loss, moved = _watched(run, tensors(batch), module)
                if [type(objective) for objective in objectives] == [Fgm]:
                    report["passes"].append(moved)
                engine.backward(loss.loss_sum, global_targets=total)
                loss_sum += loss.loss_sum.item()
            report["unchanged"] = _equal(engine.full_state_dict(), start)
            engine.step(1.0)
            after = engine.full_state_dict()
            report["gradients"][name, cut] = {key: start[key] - after[key] for key in start}
            report["losses"][name, cut] = loss_sum
            _go_back(engine, plain, scene, batches[0])
            assert _equal(engine.full_state_dict(), start), "the next step starts elsewhere"
    engine._engine.destroy()
    return report


def _go_back(engine: Engine, plain: Any, scene: Scene, batch: Batch) -> None:
    loss = plain(tensors(scene.task.without_targets(batch)))
    engine.backward(loss.loss_sum, global_targets=0)
    engine.step(0.0)


def _equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def _watched(run: Any, batch: dict[str, torch.Tensor], module: torch.nn.Module) -> Any:
    """The loss; and of FGM's passes the clean and the adversarial loss, and lengths of the step."""
    seen = []
    names = ("LlamaDecoderLayer", "LayerNorm")
    first = next(part for part in module.modules() if type(part).__name__ in names)
    with first.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach())):
        loss = run(batch)
    clean = cross_entropy(loss.logits, loss.targets, reduction="sum").item()
    return loss, {
        "clean": clean,
        "adversarial": loss.loss_sum.item() - clean,
        "num_targets": loss.num_targets,
        "num_passes": len(seen),
        "probe_is_clean": torch.equal(seen[0], seen[min(1, len(seen) - 1)]),
        "step": seen[-1] - seen[0],
        "positions": batch.get("position_ids"),
    }
