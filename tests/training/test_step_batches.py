"""A step holds the same rows, and the same mixtures of them, however it is cut."""

import numpy as np
import pytest

from ray_sft.data import Mixture, SampleStore, StepPlan
from ray_sft.models import load_processor
from ray_sft.objectives import EmbeddingMixup, RDrop
from ray_sft.tasks import IGNORED, SHARE, SequenceClassification
from ray_sft.training import Train
from ray_sft.training.step_batches import StepBatches, mixup_of
from tests.factories import tiny_processor
from tests.training.worlds import write_shards

NUM_ROWS, MIXUP = 24, EmbeddingMixup()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tasks whose rows have texts of different lengths."""
    folder = tmp_path_factory.mktemp("batches")
    tiny_processor().save_pretrained(folder / "processor")
    tasks = {name: SequenceClassification(labels=("x", "y")) for name in ("one", "two")}
    for place, (name, task) in enumerate(tasks.items()):
        rows = [
            {"text": " ".join(["card"] * (2 * n + place + 1)), "label": "xy"[n % 2]}
            for n in range(NUM_ROWS)
        ]
        write_shards(task, folder / "processor", rows, folder / name)
    mixture = Mixture({name: SampleStore(folder / name) for name in tasks})
    return tasks, mixture, load_processor(str(folder / "processor"))


def batches(data, *, world_size, mixup=MIXUP, epoch=0, accumulation=2):
    """The batches of all ranks of the first step, which holds every row."""
    tasks, mixture, processor = data
    train = Train(seed=3, tokens_per_step=100_000, gradient_accumulation=accumulation)
    plan = StepPlan(mixture.lengths, train.tokens_per_step, train.seed)
    (samples,) = plan.epoch_steps(epoch)
    made = StepBatches(plan, mixture, tasks, train, processor=processor, mixup=mixup)
    planned = made.planned(samples, world_size=world_size)
    return [
        one
        for rank in range(world_size)
        for one in made.of_rank(planned, epoch=epoch, rank=rank, world_size=world_size)
    ]


def mixtures(found):
    """By task and length of a row, its partner's length and label and its own share."""
    return {
        (name, int(batch["attention_mask"][row].sum())): (
            int(batch["partner.attention_mask"][row].sum()),
            int(batch["partner.labels"][row]),
            float(batch[SHARE][row]),
        )
        for name, batch in found
        for row in range(len(batch["labels"]))
        if batch["labels"][row] != IGNORED
    }


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_partners_and_shares_do_not_depend_on_the_cut(data, world_size):
    expected = mixtures(batches(data, world_size=1, accumulation=1))
    assert len(expected) == 2 * NUM_ROWS
    assert mixtures(batches(data, world_size=world_size)) == expected


def test_every_epoch_has_other_partners_and_the_seed_repeats_them(data):
    first, again, second = (
        mixtures(batches(data, world_size=2, epoch=epoch)) for epoch in (0, 0, 1)
    )
    assert first == again
    assert sum(first[row] != second[row] for row in first) > 0.9 * len(first)


def test_partners_are_rows_of_the_same_task(data):
    _, mixture, _ = data
    lengths = mixture.lengths.tolist()
    labels = {length: place % NUM_ROWS % 2 for place, length in enumerate(lengths)}
    own = {"one": set(lengths[:NUM_ROWS]), "two": set(lengths[NUM_ROWS:])}
    assert not own["one"] & own["two"]
    for (name, _), (length, label, _) in mixtures(batches(data, world_size=2)).items():
        assert length in own[name]
        assert label == labels[length]


def test_a_batch_is_as_wide_as_the_longer_of_its_rows_and_partners(data):
    for _, batch in batches(data, world_size=2):
        both = np.concatenate([batch["attention_mask"], batch["partner.attention_mask"]])
        assert batch["input_ids"].shape == batch["partner.input_ids"].shape
        assert both.any(axis=0).all()


def test_without_mixup_nothing_is_added(data):
    for _, batch in batches(data, world_size=2, mixup=None):
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert mixup_of([RDrop(), EmbeddingMixup(weight=0)]) is None
    assert mixup_of([RDrop(), EmbeddingMixup(alpha=0.7)]) == EmbeddingMixup(alpha=0.7)
