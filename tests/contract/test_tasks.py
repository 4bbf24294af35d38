"""The laws that every task obeys, on a tiny real model."""

from functools import cache

import numpy as np
import pytest
import torch

from ray_sft.inference import TorchRunner
from ray_sft.tasks import IGNORED, Example, Rejected, Task
from tests.factories import TASK_TYPES, TASKS, TaskCase


@cache
def case_of(kind: type[Task]) -> TaskCase:
    assert kind in TASKS, f"{kind.__name__} has no factory: add one to tests/factories.py"
    return TASKS[kind]()


@pytest.fixture(params=TASK_TYPES, ids=lambda kind: kind.__name__)
def case(request) -> TaskCase:
    return case_of(request.param)


@pytest.fixture
def examples(case) -> list[Example]:
    encoded = case.task.encode(case.rows, case.processor)
    assert all(isinstance(example, Example) for example in encoded), encoded
    return encoded


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def loss_of(case, examples):
    return case.task.loss(case.model, tensors(case.task.collate(examples, case.processor)))


def test_kind_is_the_name_of_the_module_and_of_the_class(case):
    task = type(case.task)
    assert task.__module__.rsplit(".", 1)[-1] == case.task.kind
    assert task.__name__.lower() == case.task.kind.replace("_", "")


def test_survives_json_and_is_frozen(case):
    assert type(case.task).model_validate_json(case.task.model_dump_json()) == case.task
    with pytest.raises(ValueError, match="frozen"):
        case.task.max_length = 7


def test_every_field_and_column_is_explained(case):
    assert all(text.strip() for text in case.task.columns.values())
    for name, field in type(case.task).model_fields.items():
        assert name == "kind" or field.description, name


def test_encode_returns_one_result_per_row_in_order(case):
    unusable = {"other": 1}
    rows = [case.rows[0], unusable, *case.rows[1:], unusable]
    encoded = case.task.encode(rows, case.processor)
    alone = [case.task.encode([row], case.processor)[0] for row in rows]
    assert len(encoded) == len(rows)
    for together, single in zip(encoded, alone, strict=True):
        assert type(together) is type(single)
        if isinstance(together, Example):
            assert together.arrays.keys() == single.arrays.keys()
            for name, array in together.arrays.items():
                np.testing.assert_array_equal(array, single.arrays[name])
    assert [i for i, e in enumerate(encoded) if isinstance(e, Rejected)] == [1, len(rows) - 1]
    assert all(e.reason for e in encoded if isinstance(e, Rejected))


def test_resampling_is_drawn_from_the_generator_alone_and_keeps_the_counts(case, examples):
    for example in examples:
        one, two = (
            case.task.resample(example, case.processor, np.random.default_rng(3)) for _ in range(2)
        )
        assert one.length == example.length
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, two.arrays[name])
        counts = [
            case.task.num_targets(case.task.collate([item], case.processor))
            for item in (example, one)
        ]
        assert counts[0] == counts[1]


def test_encode_of_nothing_is_nothing(case):
    assert case.task.encode([], case.processor) == []


def test_arrays_are_numpy_and_length_is_theirs(examples):
    for example in examples:
        assert all(isinstance(array, np.ndarray) for array in example.arrays.values())
        ids = [array for name, array in example.arrays.items() if name.endswith("_ids")]
        assert example.length == sum(map(len, ids))
        assert example.truncated == 0


def test_a_service_encodes_rows_without_labels(case):
    if not case.unlabelled:  # a language model scores the text itself: its rows are their labels
        assert case.task.observed_columns() == ()
        return
    encoded = case.task.encode(case.unlabelled, case.processor)
    assert all(isinstance(example, Example) for example in encoded)
    batch = case.task.collate(encoded, case.processor)
    assert case.task.num_targets(batch) == 0


def test_an_example_has_a_target_where_a_batch_of_it_has_one(case, examples):
    unlabelled = case.task.encode(case.unlabelled, case.processor)
    without = [
        Example(
            {
                name: np.full_like(array, IGNORED) if name == "labels" else array
                for name, array in example.arrays.items()
            },
            example.length,
        )
        for example in examples
    ]
    for example in (*examples, *unlabelled, *without):
        batch = case.task.collate([example], case.processor)
        assert case.task.has_target(example) == (case.task.num_targets(batch) > 0)
    assert all(case.task.has_target(example) for example in examples)
    assert not any(case.task.has_target(example) for example in unlabelled)


def test_num_targets_is_known_before_the_loss_counts_it(case, examples):
    for chosen in (examples, examples[:1], examples[1:]):
        batch = case.task.collate(chosen, case.processor)
        loss = case.task.loss(case.model, tensors(batch))
        assert case.task.num_targets(batch) == loss.num_targets
        assert case.task.num_targets(batch) > 0


def test_collate_fills_up_without_adding_targets(case, examples):
    lengths = {example.length for example in examples}
    assert len(lengths) > 1, "the factory's rows must differ in length"
    batch = case.task.collate(examples, case.processor)
    alone = [case.task.num_targets(case.task.collate([e], case.processor)) for e in examples]
    assert case.task.num_targets(batch) == sum(alone)
    assert all(len(array) == len(examples) for array in batch.values())
    if case.task.labels_tokens and "labels" in examples[0].arrays:
        assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()


def test_loss_of_a_batch_is_the_sum_of_its_rows(case, examples):
    with torch.no_grad():
        batched = loss_of(case, examples)
        single = [loss_of(case, [example]) for example in examples]
    expected = sum(float(loss.loss_sum) for loss in single)
    assert float(batched.loss_sum) == pytest.approx(expected, rel=1e-5)
    assert batched.num_targets == sum(loss.num_targets for loss in single)
    assert batched.loss_sum.ndim == 0


def test_loss_does_not_depend_on_what_padding_holds(case, examples):
    batch = tensors(case.task.collate(examples, case.processor))
    changed = {name: tensor.clone() for name, tensor in batch.items()}
    changed["input_ids"][batch["attention_mask"] == 0] = 7
    assert not torch.equal(changed["input_ids"], batch["input_ids"])
    with torch.no_grad():
        one, two = (case.task.loss(case.model, b).loss_sum for b in (batch, changed))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=0)


def test_without_targets_gives_zero_loss_and_zero_gradients(case, examples):
    batch = case.task.without_targets(case.task.collate(examples, case.processor))
    assert case.task.num_targets(batch) == 0
    case.model.zero_grad()
    loss = case.task.loss(case.model, tensors(batch))
    assert loss.num_targets == 0
    assert loss.loss_sum.item() == 0.0
    loss.loss_sum.backward()
    gradients = [p.grad for p in case.model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool((gradient == 0).all()) for gradient in gradients)


def test_without_targets_leaves_the_batch_alone(case, examples):
    batch = case.task.collate(examples, case.processor)
    before = {name: array.copy() for name, array in batch.items()}
    case.task.without_targets(batch)
    assert all(np.array_equal(batch[name], before[name]) for name in batch)


def respond(case, examples):
    batch = case.task.collate(examples, case.processor)
    outputs = case.task.predict(TorchRunner(case.model), batch)
    assert all(len(array) == len(examples) for array in outputs.values())
    return case.task.decode(outputs, examples, case.processor)


def test_decode_answers_each_example_in_the_shape_of_the_schema(case, examples):
    responses = respond(case, examples)
    assert len(responses) == len(examples)
    for response in responses:
        assert isinstance(response, case.task.Response)
        assert case.task.Response.model_validate_json(response.model_dump_json()) == response


def test_there_is_a_judgement_for_each_target_or_for_none(case, examples):
    batch = case.task.collate(examples, case.processor)
    outputs = case.task.predict(TorchRunner(case.model), batch)
    responses = case.task.decode(outputs, examples, case.processor)
    found = case.task.judgements(responses, examples, case.processor)
    assert len(found) in (0, case.task.num_targets(batch))
    for one in found:
        assert one.expected
        assert one.answered
        assert one.text
        assert np.isnan(one.score) or 0 <= one.score <= 1


def test_the_logits_at_the_targets_give_the_loss(case, examples):
    with torch.no_grad():
        loss = loss_of(case, examples)
    assert len(loss.logits) == len(loss.targets) == loss.num_targets
    expected = torch.nn.functional.cross_entropy(loss.logits, loss.targets, reduction="sum")
    torch.testing.assert_close(loss.loss_sum, expected)


def test_rows_are_valid_requests(case):
    for row in case.unlabelled or case.rows:
        case.task.Request.model_validate(row)


def test_figures_do_not_depend_on_batches_or_processes(case, examples):
    whole = case.task.metrics()
    whole.update(respond(case, examples), examples)
    parts = []
    for example in reversed(examples):
        part = case.task.metrics()
        part.update(respond(case, [example]), [example])
        parts.append(part)
    merged = case.task.metrics()
    for part in parts:
        merged.merge(part)
    figures = whole.compute()
    assert merged.compute() == pytest.approx(figures, rel=1e-5)
    name, direction = case.task.main_metric
    assert name in figures
    assert direction in ("max", "min")


def test_figures_agree_with_the_training_loss(case, examples):
    metrics = case.task.metrics()
    metrics.update(respond(case, examples), examples)
    with torch.no_grad():
        loss = loss_of(case, examples)
    expected = float(loss.loss_sum) / loss.num_targets
    assert metrics.compute()["loss"] == pytest.approx(expected, rel=1e-4)


def test_figures_of_nothing_are_not_numbers(case):
    figures = case.task.metrics().compute()
    assert np.isnan(figures[case.task.main_metric[0]])
    assert figures["num_rows"] == 0


def test_a_task_that_cannot_pack_says_so(case, examples):
    if case.task.can_pack:
        assert case.task.pack([examples], case.processor)["input_ids"].shape[0] == 1
    else:
        with pytest.raises(Exception, match=r"cannot be packed.*train\.packing: false"):
            case.task.pack([examples], case.processor)
