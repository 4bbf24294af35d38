"""A run ends with a sentence where figures are not finite or a checkpoint cannot be written."""

import resource
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_sft.core import TrainingError
from tests.training.worlds import make_loop, run_world

SAMPLES = [0, 3, 4, 9, 11, 12, 20]


def poisoned(rank, job, out: Path) -> None:
    """A step in which the weights of one token are no numbers."""
    loop = make_loop(job, out)
    planned = loop.epochs.batches.planned(np.asarray(SAMPLES), world_size=2)
    seen = []
    for each in (0, 1):
        batches = loop.epochs.batches.of_rank(planned, epoch=0, rank=each, world_size=2)
        seen.append({token for _, batch in batches for token in batch["input_ids"].flatten()})
    token = max(seen[1] - seen[0])
    with torch.no_grad():
        loop.engine.bare_module.get_input_embeddings().weight[token] = torch.nan
    with pytest.raises(TrainingError) as caught:
        loop._step(4, np.asarray(SAMPLES))
    (out / f"{rank}.txt").write_text(str(caught.value))


@pytest.mark.timeout(240)
def test_a_loss_that_is_not_finite_names_the_worker_on_every_rank(tiny_decoder, tmp_path):
    run_world(poisoned, 2, tiny_decoder.job(zero_stage=0), tmp_path)
    for rank in (0, 1):
        told = (tmp_path / f"{rank}.txt").read_text()
        assert told.startswith("the loss of step 5 is nan, by the rows of worker 1. Lower")


def exploding(rank, job, out: Path) -> None:
    del rank
    with pytest.raises(TrainingError, match=r"(loss|gradient) of step \d+ is (nan|inf)"):
        make_loop(job, out).run()


@pytest.mark.timeout(240)
def test_weights_that_explode_end_the_run(tiny_decoder, tmp_path):
    run_world(exploding, 2, tiny_decoder.job(zero_stage=2, learning_rate=1e30), tmp_path)


def without_room(rank, job, out: Path) -> None:
    """A run whose files may not get longer than a few kilobytes."""
    del rank
    temporary = out / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(temporary)
    loop = make_loop(job, out)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with pytest.raises(TrainingError, match="checkpoint of step 3 cannot be written to"):
        loop.run()
    assert not list(temporary.glob("ray-sft-checkpoint-*"))


@pytest.mark.timeout(240)
def test_a_checkpoint_without_room_is_said_and_leaves_nothing(tiny_decoder, tmp_path):
    job = tiny_decoder.job(zero_stage=2, checkpoint_every=3)
    run_world(without_room, 1, job, tmp_path)
