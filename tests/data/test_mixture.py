import numpy as np
import pytest

from ray_sft.data import Mixture, SampleStore
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
