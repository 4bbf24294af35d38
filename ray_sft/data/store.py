"""Encoded samples, read back by their ids from shards of any size."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_sft.core import DataError
from ray_sft.data.index import FACTS, INDEX, Facts
from ray_sft.data.shards import BATCH_ROWS, sample_file
from ray_sft.data.summary import SplitSummary
from ray_sft.tasks import Array, Example

__all__ = ["SampleStore"]

_OPEN_SHARDS = 128


class SampleStore:
    """Random access to the examples of one split.

    Lengths and weights are held in memory, 8 bytes a sample; everything else is read when it is
    asked for.
    """

    def __init__(self, folder: Path) -> None:
        """Opens the shards in ``folder``.

        Raises:
            DataError: the data stage did not finish there.
        """
        index = folder / INDEX
        if not (index / FACTS).is_file():
            raise DataError(f"'{folder}' holds no finished data stage. Run the recipe again.")
        self._folder = folder
        self._facts = Facts.model_validate_json((index / FACTS).read_text(encoding="utf-8"))
        self.lengths: Array = np.load(index / "lengths.npy")
        self.weights: Array = np.load(index / "weights.npy")
        self._shard: Array = np.load(index / "shard.npy", mmap_mode="r")
        self._place: Array = np.load(index / "place.npy", mmap_mode="r")
        self._samples = lru_cache(maxsize=_OPEN_SHARDS)(self._open)

    def _open(self, shard: int) -> Any:
        path = sample_file(self._folder, self._facts.shards[shard])
        # not mapped: pages that were touched once would count as this process's memory for ever
        return pa.ipc.open_file(pa.OSFile(str(path)))

    def __len__(self) -> int:
        """The number of accepted rows and copies."""
        return len(self.lengths)

    def examples(self, ids: Sequence[int]) -> list[Example]:
        """The examples with the given sample ids, in that order."""
        return [self._example(int(sample)) for sample in ids]

    def all(self) -> list[Example]:
        """Every example, in order."""
        return self.examples(range(len(self)))

    def _example(self, sample: int) -> Example:
        batch, row = divmod(int(self._place[sample]), BATCH_ROWS)
        samples = self._samples(int(self._shard[sample])).get_batch(batch)
        arrays: dict[str, Array] = {}
        for name, column in zip(samples.schema.names, samples.columns, strict=True):
            kind, _, array = name.partition(".")
            value = column[row]
            if value.is_valid:
                arrays[array] = (
                    value.values.to_numpy() if kind == "array" else np.asarray(value.as_py())
                )
        return Example(arrays, int(self.lengths[sample]))

    def summary(self) -> SplitSummary:
        """Counts of what became of the rows."""
        return self._facts.summary

    def copies(self, kind: str, *, limit: int) -> list[tuple[int, int]]:
        """Position and copy number of the first accepted copies that ``kind`` made."""
        return list(self._facts.copies.get(kind, ())[:limit])

    @property
    def positions(self) -> Array:
        """(samples,): where each sample's row stands in the source."""
        return self._array("position")

    @property
    def copy_numbers(self) -> Array:
        """(samples,): 0 for a row itself, or the number of its copy."""
        return self._array("copy")

    @property
    def contents(self) -> Array:
        """(samples,): hashes of what the samples say, without their labels."""
        return self._array("content")

    @property
    def rejected(self) -> pa.Table:
        """Rows and copies that are not used, with the reason, in the order of the source."""
        return pq.read_table(self._folder / INDEX / "rejected.parquet")

    def _array(self, name: str) -> Array:
        found: Array = np.load(self._folder / INDEX / f"{name}.npy", mmap_mode="r")
        return found
