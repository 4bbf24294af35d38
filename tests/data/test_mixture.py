import numpy as np
import pytest

from ray_sft.data import Mixture, SampleStore, StepPlan
from ray_sft.tasks import SequenceClassification
from tests.factories import tiny_processor
from tests.training.worlds import write_shards


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Texts of one word more each, so that a length tells which row it is."""
    folder = tmp_path_factory.mktemp("stores")
    tiny_processor().save_pretrained(folder / "processor")
    task = SequenceClassification(labels=("x", "y"))
    found = {}
    for name, sizes in {"a": (1, 2), "b": (3,), "c": (4, 5, 6)}.items():
        rows = [{"text": " ".join(["card"] * size), "label": "x"} for size in sizes]
        write_shards(task, folder / "processor", rows, folder / name)
        found[name] = SampleStore(folder / name)
    return found


def test_ids_run_through_the_tasks_in_order(stores):
    mixture = Mixture(stores)
    lengths = mixture.lengths.tolist()
    assert lengths == sorted(set(lengths))
    found = mixture.by_task(np.asarray([5, 0, 3, 1, 4]))
    assert {name: ids.tolist() for name, ids in found.items()} == {"a": [0, 1], "c": [5, 3, 4]}
    assert [example.length for example in mixture.examples([5, 2, 0])] == [
        lengths[5],
        lengths[2],
        lengths[0],
    ]


def test_every_sample_belongs_to_exactly_one_task(stores):
    parts = Mixture(stores).by_task(np.random.default_rng(0).permutation(6))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(6))
    assert {name: len(ids) for name, ids in parts.items()} == {"a": 2, "b": 1, "c": 3}


def test_replayed_samples_belong_to_their_task_and_are_drawn_in_equal_shares(stores):
    mixture = Mixture({"a": stores["a"]}, {"a": [stores["b"], stores["c"]]}, replay=2.0)
    assert mixture.lengths.tolist() == sorted(mixture.lengths.tolist())
    np.testing.assert_allclose(mixture.weights, [1, 1, 2, 2 / 3, 2 / 3, 2 / 3])
    parts = mixture.by_task(np.arange(6))
    assert {name: ids.tolist() for name, ids in parts.items()} == {"a": [0, 1, 2, 3, 4, 5]}
    assert [mixture.siblings(sample) for sample in (1, 2, 5)] == [
        range(2),
        range(2, 3),
        range(3, 6),
    ]


def test_an_epoch_has_about_as_many_replayed_samples_as_asked(stores):
    mixture = Mixture({"c": stores["c"]}, {"c": [stores["a"], stores["b"]]}, replay=0.5)
    plan = StepPlan(mixture.lengths, 1000, 0, mixture.weights)
    counts = np.zeros(6)
    for epoch in range(400):
        (samples,) = plan.epoch_steps(epoch)
        counts += np.bincount(samples, minlength=6)
    assert counts[:3].tolist() == [400, 400, 400]
    # of 1.5 replayed samples an epoch each earlier store has half
    np.testing.assert_allclose(counts[3:] / 400, [0.375, 0.375, 0.75], atol=0.08)


def test_nothing_is_replayed_where_the_share_is_zero(stores):
    mixture = Mixture({"a": stores["a"]}, {"a": [stores["b"]]}, replay=0.0)
    assert len(mixture.lengths) == 2
