"""The laws that every objective obeys around every task, on tiny real models.

The models drop units by a mask that all rows share, so that the two passes of an objective differ
and a batch is still the sum of its rows.
"""

from functools import cache

import pytest
import torch
from pydantic import TypeAdapter

from ray_sft.models import HeadView
from ray_sft.objectives import EmbeddingMixup, Objective, Objectives, neftune, wrap_all
from ray_sft.tasks import Task, collate_with_partners
from tests.factories import OBJECTIVE_TYPES, OBJECTIVES, TASKS, TaskCase
from tests.objectives.shared_dropout import share_dropout, shared_noise

SEED = 11


@cache
def case_of(kind: type[Task]) -> TaskCase:
    case = TASKS[kind]()
    share_dropout(module_of(case))
    return case


def module_of(case):
    """What an engine would hold: the module that a view of one head looks at."""
    return case.model.module if isinstance(case.model, HeadView) else case.model


def works_on(objective: type[Objective], kind: type[Task]) -> bool:
    return objective is not EmbeddingMixup or kind.can_mix


PAIRS = [
    pytest.param((kind, objective), id=f"{kind.__name__}-{objective.__name__}")
    for kind in TASKS
    for objective in OBJECTIVE_TYPES
    if works_on(objective, kind)
]


@pytest.fixture(autouse=True)
def noise_is_shared(monkeypatch):
    monkeypatch.setattr(neftune, "uniform", shared_noise)


@pytest.fixture(params=TASKS, ids=lambda kind: kind.__name__)
def any_task(request) -> TaskCase:
    return case_of(request.param)


@pytest.fixture(params=OBJECTIVE_TYPES, ids=lambda kind: kind.__name__)
def any_objective(request) -> Objective:
    assert request.param in OBJECTIVES, f"{request.param.__name__} has no factory"
    return OBJECTIVES[request.param]()


@pytest.fixture(params=PAIRS)
def pair(request) -> tuple[TaskCase, Objective]:
    kind, objective = request.param
    return case_of(kind), OBJECTIVES[objective]()


@pytest.fixture
def case(pair) -> TaskCase:
    return pair[0]


@pytest.fixture
def objective(pair) -> Objective:
    return pair[1]


@pytest.fixture
def examples(case):
    return case.task.encode(case.rows, case.processor)


def collate(case, examples, rows=None):
    """A batch of some rows of ``examples``; each has the next one as its partner for mixup."""
    rows = range(len(examples)) if rows is None else rows
    chosen = [examples[row] for row in rows]
    if not case.task.can_mix:
        return case.task.collate(chosen, case.processor)
    partners = [examples[(row + 1) % len(examples)] for row in rows]
    shares = [0.5 + 0.4 * row / len(examples) for row in rows]
    return collate_with_partners(case.task, chosen, partners, shares, case.processor)


def loss_of(case, objectives, batch):
    inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
    run = wrap_all(objectives, lambda given: case.task.loss(case.model, given), module_of(case))
    torch.manual_seed(SEED)
    return run(inputs)


def gradient(case, objectives, batch):
    """The loss and its gradient by parameter."""
    named = module_of(case).named_parameters()
    parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
    loss = loss_of(case, objectives, batch)
    found = torch.autograd.grad(loss.loss_sum, parameters.values(), materialize_grads=True)
    return loss, dict(zip(parameters, found, strict=True))


def test_kind_is_the_name_of_the_module_and_of_the_class(any_objective):
    assert type(any_objective).__module__.rsplit(".", 1)[-1] == any_objective.kind
    assert type(any_objective).__name__.lower() == any_objective.kind.replace("_", "")


def test_survives_json_alone_and_in_a_list_and_is_frozen(any_objective):
    assert type(any_objective).model_validate_json(any_objective.model_dump_json()) == any_objective
    lists = TypeAdapter(Objectives)
    assert lists.validate_json(lists.dump_json((any_objective,))) == (any_objective,)
    with pytest.raises(ValueError, match="frozen"):
        any_objective.kind = "other"


def test_every_field_is_explained_and_has_a_default(any_objective):
    type(any_objective)()
    for name, field in type(any_objective).model_fields.items():
        assert name == "kind" or field.description, name


def test_any_weight_of_zero_leaves_the_loss_function_as_it_is(any_objective):
    def loss_fn(_batch):
        raise AssertionError

    names = [name for name, field in type(any_objective).model_fields.items() if name != "kind"]
    assert names
    for name in names:
        neutral = type(any_objective)(**{name: 0})
        assert neutral.wrap(loss_fn, torch.nn.Identity()) is loss_fn, name


def test_it_changes_the_loss_and_keeps_what_the_clean_pass_found(case, objective, examples):
    batch = collate(case, examples)
    with torch.no_grad():
        plain = loss_of(case, [], batch)
    loss = loss_of(case, [objective], batch)
    assert loss.num_targets == plain.num_targets
    assert torch.equal(loss.targets, plain.targets)
    same = torch.allclose(loss.logits, plain.logits, rtol=1e-6, atol=1e-6)
    assert same == objective.has_clean_pass
    assert loss.loss_sum.ndim == 0
    assert abs(loss.loss_sum - plain.loss_sum) > 1e-3 * plain.loss_sum


def test_the_loss_of_a_batch_is_the_sum_of_its_rows(case, objective, examples):
    whole, expected = gradient(case, [objective], collate(case, examples))
    rows = [gradient(case, [objective], collate(case, examples, [row])) for row in every(examples)]
    total = sum(loss.loss_sum.item() for loss, _ in rows)
    assert whole.loss_sum.item() == pytest.approx(total, rel=1e-4)
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        parts = sum(found[name] for _, found in rows)
        torch.testing.assert_close(parts, tensor, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_without_targets_it_contributes_exactly_nothing(case, objective, examples):
    batch = case.task.without_targets(collate(case, examples))
    loss, found = gradient(case, [objective], batch)
    assert loss.num_targets == 0
    assert loss.loss_sum.item() == 0.0
    assert not any(bool(tensor.any()) for tensor in found.values())


def test_the_same_modules_run_with_and_without_targets(case, objective, examples):
    def path(batch):
        """Every module that is entered, and every one that a gradient reaches, in order."""
        seen, handles = [], []
        for name, module in module_of(case).named_modules():

            def enter(_module, _inputs, name=name):
                seen.append(("forward", name))

            def leave(_module, _inputs, output, name=name):
                if isinstance(output, torch.Tensor) and output.requires_grad:
                    output.register_hook(lambda _, name=name: seen.append(("backward", name)))

            handles += [module.register_forward_pre_hook(enter)]
            handles += [module.register_forward_hook(leave)]
        gradient(case, [objective], batch)
        for handle in handles:
            handle.remove()
        return seen

    batch = collate(case, examples)
    busy, idle = path(batch), path(case.task.without_targets(batch))
    assert busy == idle
    assert {direction for direction, _ in busy} == {"forward", "backward"}


def test_it_leaves_no_hook_behind_even_where_the_loss_fails(case, objective, examples):
    module = module_of(case)

    def hooks():
        parts = list(module.modules())
        return [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts]

    before = hooks()
    loss_of(case, [objective], collate(case, examples))
    assert hooks() == before

    def fail(_batch):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        objective.wrap(fail, module)({})
    assert hooks() == before


def test_parameters_are_only_read(case, objective, examples):
    module = module_of(case)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss_of(case, [objective], collate(case, examples))
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_all_of_them_together_obey_the_law_of_sums(any_task):
    case, kind = any_task, type(any_task.task)
    examples = case.task.encode(case.rows, case.processor)
    objectives = [make() for one, make in OBJECTIVES.items() if works_on(one, kind)]
    whole = loss_of(case, objectives, collate(case, examples))
    first, *others = every(examples)
    parts = [loss_of(case, objectives, collate(case, examples, part)) for part in ([first], others)]
    assert whole.loss_sum.item() == pytest.approx(
        sum(part.loss_sum.item() for part in parts), rel=1e-4
    )
    idle = loss_of(case, objectives, case.task.without_targets(collate(case, examples)))
    assert idle.loss_sum.item() == 0.0


def every(examples):
    return range(len(examples))


def test_arithmetic_in_bf16_gives_nearly_the_same(case, objective, examples):
    batch = collate(case, examples)
    exact = loss_of(case, [objective], batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = loss_of(case, [objective], batch)
    assert rough.loss_sum.dtype == torch.float32
    assert rough.loss_sum.item() == pytest.approx(exact.loss_sum.item(), rel=0.05)
