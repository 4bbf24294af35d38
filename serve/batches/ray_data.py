"""Answering blocks through Ray Data: a pool of actors, each with the service's application.

What travels is where a block lies in the input and how many of its lines ended how; the actors
read the lines and write the answers themselves. So a batch of any size takes no memory of Ray's,
and a block that was lost with its actor is done again by another.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray

from serve.batches.job import Job
from serve.batches.lines import Block
from serve.batches.parts import Tally
from serve.batches.scoring import Scorer

__all__ = ["answer_by_ray_data"]

_BLOCK_BYTES = 1 << 20
_RETRIES = 2
"""Of a block whose actor died, for instance on a line that takes all memory; Ray's own number is
endless."""


class _ScoreBlocks:
    """What an actor of the pool does."""

    def __init__(self, job: Job) -> None:
        self._scorer = Scorer(job)

    def __call__(self, rows: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        columns = (rows[name].tolist() for name in ("index", "start", "end", "num_lines"))
        blocks = [Block(*values) for values in zip(*columns, strict=True)]
        tallies = [self._scorer.score(block) for block in blocks]
        return {
            name: np.asarray([getattr(one, name) for one in tallies], dtype=np.int64)
            for name in Tally.model_fields
        }


def _remote_args() -> dict[str, int]:
    return {"max_restarts": _RETRIES, "max_task_retries": _RETRIES}


def answer_by_ray_data(job: Job, blocks: Sequence[Block]) -> Iterator[Tally]:
    """A `serve.batches.job.Compute` of the cluster that this process is connected to."""
    with _settings():
        found = ray.data.from_items(
            [asdict(block) for block in blocks], override_num_blocks=len(blocks)
        ).map_batches(
            _ScoreBlocks,
            batch_size=1,
            fn_constructor_kwargs={"job": job},
            compute=ray.data.ActorPoolStrategy(size=min(job.batches.concurrency, len(blocks))),
            num_cpus=job.batches.num_cpus,
            ray_remote_args_fn=_remote_args,
        )
        for row in found.iter_rows():
            yield Tally.model_validate(row)


@contextmanager
def _settings() -> Iterator[None]:
    context: Any = ray.data.DataContext.get_current()
    update = {
        "enable_progress_bars": False,
        # Ray keeps room for an output of this size in its object store, which is small here
        "target_max_block_size": _BLOCK_BYTES,
        "op_resource_reservation_enabled": False,
    }
    former = {name: getattr(context, name) for name in update}
    for name, value in update.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in former.items():
            setattr(context, name, value)
