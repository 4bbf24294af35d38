"""Objectives under DeepSpeed: every ZeRO stage gives the gradient of one plain PyTorch batch."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from ray_sft.objectives import (
    EmbeddingMixup,
    Fgm,
    FocalLoss,
    FreeLb,
    LabelSmoothing,
    Neftune,
    Objective,
    Pgd,
    RDrop,
    neftune,
    wrap_all,
)
from ray_sft.tasks import collate_with_partners
from tests.factories import TASKS, CausalLanguageModel, Embedding, SequenceClassification
from tests.objectives.shared_dropout import shared_noise
from tests.objectives.zero_world import (
    ADAPTER_OF,
    SEED,
    Held,
    Scene,
    build,
    loss_fn,
    run_scenes,
    tensors,
)
from tests.training.worlds import run_world

STAGES = (0, 1, 2, 3)
EPSILON = 0.5
OBJECTIVES = {
    "label_smoothing": (LabelSmoothing(epsilon=0.2),),
    "r_drop": (RDrop(alpha=0.8),),
    "fgm": (Fgm(epsilon=EPSILON, weight=1.0),),
    "pgd": (Pgd(epsilon=EPSILON, step_size=0.3, steps=2),),
    "free_lb": (FreeLb(epsilon=EPSILON, step_size=0.3, steps=1),),
    "neftune": (Neftune(alpha=5.0),),
    "focal_loss": (FocalLoss(gamma=2.0),),
    "all": (LabelSmoothing(epsilon=0.2), Fgm(epsilon=EPSILON, weight=0.7), RDrop(alpha=0.8)),
    "ewc": (Held(),),
    "ewc_around_all": (LabelSmoothing(), Fgm(epsilon=EPSILON), RDrop(alpha=0.8), Held()),
    "all_reversed": (RDrop(alpha=0.8), Fgm(epsilon=EPSILON, weight=0.7), LabelSmoothing()),
}
MIXED = {
    "mixup": (EmbeddingMixup(weight=0.7),),
    "mixup_in_fgm": (EmbeddingMixup(weight=0.7), Fgm(epsilon=EPSILON, weight=0.7)),
    "fgm_in_mixup": (Fgm(epsilon=EPSILON, weight=0.7), EmbeddingMixup(weight=0.7)),
}
"""Objectives of tasks whose rows have one label."""
CUTS = {"uneven": ((0, 3), (1,), (2,), (4, 5, 6)), "lonely": ((2,), (), (), ())}
"""Rows of the four micro-batches of two ranks; three of the lonely ones have nothing to do."""
TASK_OF = {
    "encoder": SequenceClassification,
    "decoder": CausalLanguageModel,
    "packed": CausalLanguageModel,
    "heads": Embedding,
    "checkpointed_encoder": SequenceClassification,
    "checkpointed_decoder": CausalLanguageModel,
    **dict.fromkeys(ADAPTER_OF, SequenceClassification),
}
PLAIN = ("encoder", "decoder", "packed")
CHECKPOINTED = ("checkpointed_encoder", "checkpointed_decoder")


@cache
def rows_of(kind):
    case = TASKS[TASK_OF[kind]]()
    examples = case.task.encode(case.rows, case.processor)
    return case, [examples[row % len(examples)] for row in range(7)]


def micro_batch(kind, rows):
    case, examples = rows_of(kind)
    if not rows:
        shortest = min(range(7), key=lambda row: examples[row].length)
        return case.task.without_targets(micro_batch(kind, [shortest]))
    chosen = [examples[row] for row in rows]
    if kind == "packed":
        return case.task.pack([chosen], case.processor)
    if kind == "encoder":
        partners, shares = [examples[(row + 2) % 7] for row in rows], [0.1 * row for row in rows]
        return collate_with_partners(case.task, chosen, partners, shares, case.processor)
    return case.task.collate(chosen, case.processor)


def scene(kind, stage, objectives, *, precision="fp32", cuts=tuple(CUTS)):
    cuts = {name: tuple(micro_batch(kind, r) for r in CUTS[name]) for name in cuts}
    name = f"{kind}-{stage}-{precision}"
    return Scene(name, kind, rows_of(kind)[0].task, stage, precision, dict(objectives), cuts)


OTHER_ORDERS = ("all_reversed", "ewc_around_all")
BARE: dict[str, tuple[Objective, ...]] = {"none": ()}
COMPOSED = {name: OBJECTIVES[name] for name in ("all", "ewc_around_all")}
FOR_KIND = {kind: OBJECTIVES | (MIXED if kind == "encoder" else {}) for kind in PLAIN}
ONE_ORDER = {
    kind: {name: every for name, every in lists.items() if name not in OTHER_ORDERS}
    for kind, lists in FOR_KIND.items()
}
SCENES = [
    # stages 0 to 2 reduce gradients alike, so nothing to do is tried at the last of them
    *(scene(kind, stage, ONE_ORDER[kind], cuts=["uneven"]) for kind in PLAIN for stage in (0, 1)),
    *(scene(kind, 2, ONE_ORDER[kind]) for kind in PLAIN),
    *(scene(kind, 3, FOR_KIND[kind]) for kind in PLAIN),
    *(scene(kind, stage, COMPOSED) for kind in ("heads", "lora") for stage in (2, 3)),
    *(scene(kind, stage, BARE | COMPOSED) for kind in CHECKPOINTED for stage in (2, 3)),
    *(scene(kind, stage, BARE) for kind in ADAPTER_OF if kind != "lora" for stage in STAGES),
    *(scene(kind, 3, COMPOSED, precision="bf16") for kind in ("encoder", "decoder")),
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """By scene, what each of the two ranks reported."""
    out_dir = tmp_path_factory.mktemp("zero")
    run_world(run_scenes, 2, 2, SCENES, out_dir)
    return {
        s.name: [torch.load(out_dir / f"{s.name}-{rank}.pt") for rank in (0, 1)] for s in SCENES
    }


@cache
def plain_gradient(kind, name, cut):
    """The loss of one padded batch in plain PyTorch, and the gradient of its mean."""
    task = rows_of(kind)[0].task
    module = build(kind, task)
    rows = [row for part in CUTS[cut] for row in part]
    padded = micro_batch("decoder" if kind == "packed" else kind, rows)
    run = wrap_all((OBJECTIVES | MIXED | BARE)[name], loss_fn(task, module, kind), module)
    torch.manual_seed(SEED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neftune, "uniform", shared_noise)
        loss = run(tensors(padded))
    (loss.loss_sum / loss.num_targets).backward()
    return loss.loss_sum.item(), {
        key: parameter.grad for key, parameter in module.named_parameters()
    }


pytestmark = pytest.mark.timeout(600)
fp32 = pytest.mark.parametrize(
    "one", [s for s in SCENES if s.precision == "fp32"], ids=lambda s: s.name
)


@fp32
def test_the_gradient_equals_that_of_one_plain_batch(reports, one):
    for (name, cut), found in reports[one.name][0]["gradients"].items():
        _, expected = plain_gradient(one.kind, name, cut)
        assert set(expected) <= set(found)
        for parameter, gradient in expected.items():
            case = f"{one.name} {name} {cut}: {parameter}"
            if gradient is None:
                assert not found[parameter].any(), case
                continue
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case} differs by {error:.1e}"


@fp32
def test_the_loss_is_the_same_however_the_step_is_cut(reports, one):
    for name, cut in reports[one.name][0]["losses"]:
        found = sum(report["losses"][name, cut] for report in reports[one.name])
        expected, _ = plain_gradient(one.kind, name, cut)
        assert found == pytest.approx(expected, rel=1e-4), (one.name, name, cut)


def test_each_objective_changes_the_gradient_by_more_than_the_tolerance():
    """Else the equality above would prove nothing."""
    for kind in PLAIN:
        found = {name: plain_gradient(kind, name, "uneven") for name in FOR_KIND[kind]}
        task = rows_of(kind)[0].task
        module = build(kind, task)
        torch.manual_seed(SEED)
        rows = [row for part in CUTS["uneven"] for row in part]
        batch = tensors(micro_batch("decoder" if kind == "packed" else kind, rows))
        loss = loss_fn(task, module, kind)(batch)
        (loss.loss_sum / loss.num_targets).backward()
        bare = {name: parameter.grad for name, parameter in module.named_parameters()}
        for name, (_, gradients) in found.items():
            change = max((gradients[key] - bare[key]).abs().max().item() for key in bare)
            assert change > 1e-2, (kind, name)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("stage", STAGES)
def test_fgm_moves_the_input_and_not_the_weights(reports, kind, stage):
    """The adversarial loss is worse than the clean one, by a step of epsilon a sequence."""
    for rank, report in enumerate(reports[f"{kind}-{stage}-fp32"]):
        assert report["unchanged"], "computing losses and gradients changed the weights"
        for passes in report["passes"]:
            assert passes["num_passes"] == 3
            assert passes["probe_is_clean"]
            lengths = sequence_lengths(passes["step"], passes["positions"])
            assert max(lengths) <= EPSILON * (1 + 1e-5)
            if not passes["num_targets"]:
                assert max(lengths) == 0.0
                assert passes["adversarial"] == 0.0
                continue
            assert max(lengths) == pytest.approx(EPSILON, rel=1e-4)
            assert passes["adversarial"] > 1.01 * passes["clean"], (rank, passes)


def sequence_lengths(step, positions):
    """The length of the step of every sequence in a batch."""
    if positions is None:
        return step.flatten(1).norm(dim=1).tolist()
    lengths = []
    for row, place in zip(step, positions, strict=True):
        starts = [*(place == 0).nonzero().flatten().tolist(), len(place)]
        lengths += [row[a:b].norm().item() for a, b in pairwise(starts)]
    return lengths


def test_stage_3_really_partitions_these_models(reports):
    for name, (report, _) in reports.items():
        is_partitioned = name.split("-")[1] == "3"
        assert (report["partitioned"] > 10) == is_partitioned, (name, report["partitioned"])


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_bf16_gives_nearly_the_same_gradient(reports, kind):
    for (name, cut), found in reports[f"{kind}-3-bf16"][0]["gradients"].items():
        _, expected = plain_gradient(kind, name, cut)
        one = torch.cat([found[key].flatten() for key in expected])
        two = torch.cat([gradient.flatten() for gradient in expected.values()])
        similarity = torch.nn.functional.cosine_similarity(one, two, dim=0).item()
        assert similarity > 0.98, (kind, cut, similarity)
        assert one.norm().item() == pytest.approx(two.norm().item(), rel=0.1)
