"""Fisher information against its closed form for the last layer of a classifier."""

import torch

from ray_sft.objectives import fisher_information
from tests.factories import TASKS, Embedding, MaskedLanguageModel, SequenceClassification
from tests.objectives.zero_world import tensors

DRAWS = 150


def estimate(case, examples, *, seed):
    name = "vector" if isinstance(case.task, Embedding) else "it"
    return fisher_information(
        case.model.eval() if name == "it" else case.model.module.eval(),
        {name: case.task},
        {name: examples},
        processor=case.processor,
        seed=seed,
    )


def test_the_bias_of_a_classifier_has_p_times_1_minus_p():
    case = TASKS[SequenceClassification]()
    with torch.no_grad():  # answers that are far from even
        case.model.classifier.bias.copy_(torch.tensor([1.5, 0.5, 0.0, -0.5, 0.25, 0.0]))
    examples = case.task.encode(case.rows, case.processor)
    draws = [estimate(case, examples, seed=seed)["classifier.bias"] for seed in range(DRAWS)]
    found = torch.stack(draws).mean(dim=0)
    batch = tensors(case.task.collate(examples, case.processor))
    p_NC = case.task.loss(case.model, batch).logits.softmax(dim=1).detach()
    expected = (p_NC * (1 - p_NC)).mean(dim=0)
    # a mean of some hundred squares of bounded size
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0.01)


def test_labels_of_the_data_do_not_matter_and_the_seed_does():
    case = TASKS[SequenceClassification]()
    examples = case.task.encode(case.rows, case.processor)
    others = case.task.encode(
        [row | {"label": case.task.labels[0]} for row in case.rows], case.processor
    )
    one, two = (estimate(case, rows, seed=3) for rows in (examples, others))
    assert all(torch.equal(one[name], two[name]) for name in one)
    three = estimate(case, examples, seed=4)
    assert any(not torch.equal(one[name], three[name]) for name in one)


def test_targets_count_alike_whatever_row_they_are_in():
    """Means over targets: the same rows twice change nothing but the draws."""
    case = TASKS[MaskedLanguageModel]()
    examples = case.task.encode(case.rows, case.processor)
    once = estimate(case, examples * 10, seed=0)
    twice = estimate(case, examples * 20, seed=1)
    total = sum(value.sum() for value in once.values())
    assert sum(value.sum() for value in twice.values()) / total < 1.3
    assert sum(value.sum() for value in twice.values()) / total > 0.7


def test_it_reaches_every_weight_that_answers_depend_on():
    case = TASKS[SequenceClassification]()
    examples = case.task.encode(case.rows, case.processor)
    found = estimate(case, examples, seed=0)
    assert found.keys() == {name for name, _ in case.model.named_parameters()}
    assert all((value >= 0).all() for value in found.values())
    assert all(value.any() for name, value in found.items() if "embeddings" not in name)
