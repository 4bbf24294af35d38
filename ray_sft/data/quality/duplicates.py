"""Rows that say the same as earlier ones, or nearly: MinHash and banding over all shards.

Signatures are made where rows are encoded; here each band of them is sorted by a Ray task, rows
that agree in a whole band become candidates, and those whose signatures agree in enough places are
one group (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4). The cost is linear in the
number of rows but for the sorts.
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray
import xxhash

from ray_sft.core.whole_files import writing_to
from ray_sft.data.quality.config import Quality
from ray_sft.data.shards import read_shard_rows, row_files
from ray_sft.tasks import Array

__all__ = ["NUM_PERMUTATIONS", "Duplicates", "find_duplicates", "signature", "unwanted_rows"]

logger = logging.getLogger(__name__)

NUM_PERMUTATIONS = 128
_ROWS_PER_BAND = 4
"""32 bands of 4 rows: two texts of similarity 0.8 share a band with a chance of 1 - 5e-8, of 0.6
with 0.99, of 0.3 with 0.23; the comparison of whole signatures then tells them apart."""
_SLACK = 0.05
"""An estimate from 128 places errs by 0.035 (one standard deviation at 0.8); with this much less
than the asked similarity, 92 of 100 pairs of just that similarity are found, and more above it."""
_SHINGLE = 5
_CHUNK = 1 << 16
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing; keys that fall together by chance are told apart
when whole signatures are compared."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Training rows to leave out, by position."""

    positions: Array
    """(rows,) int64; in order."""
    originals: Array
    """(rows,) int64; the position of the row that says the same."""
    is_leak: Array
    """(rows,) bool; whether that row is one of evaluation."""


def signature(text: str) -> Array:
    """(128,) uint32: the MinHash of a text's character 5-grams, without case and extra blanks."""
    from datasketch import MinHash  # loads scipy's statistics, and few recipes look for these

    plain = " ".join(text.casefold().split()).encode("utf-32-le", "replace")
    size = 4 * _SHINGLE
    shingles = {plain[at : at + size] for at in range(0, max(4, len(plain) - size + 4), 4)}
    sketch = MinHash(num_perm=NUM_PERMUTATIONS, seed=1, hashfunc=xxhash.xxh32_intdigest)
    sketch.update_batch(sorted(shingles))
    values: Array = sketch.hashvalues.astype(np.uint32)
    return values


def unwanted_rows(train: Path, evaluation: Path, quality: Quality) -> Duplicates | None:
    """Which training rows ``quality`` does not want beside other ones; see `find_duplicates`."""
    if quality.duplicates == "keep" and quality.leaks == "report":
        return None
    found = find_duplicates(
        train,
        evaluation,
        similarity=quality.similarity if quality.duplicates == "near" else 1.0,
        leaks=quality.leaks == "remove",
        exact=quality.duplicates != "keep",
    )
    if len(found.positions):
        logger.warning(
            "%d training rows removed: %d say what an earlier one says, %d what evaluation says",
            len(found.positions),
            (~found.is_leak).sum(),
            found.is_leak.sum(),
        )
    return found


def find_duplicates(
    train: Path, evaluation: Path, *, similarity: float, leaks: bool, exact: bool
) -> Duplicates:
    """The training rows to leave out: all but the first of each group that says the same.

    Args:
        train: shards of the training rows; with signatures where ``similarity`` is below 1.
        evaluation: shards of the evaluation rows.
        similarity: share of common 5-grams from which on two texts are nearly the same; 1 for
            rows that are the same to the model alone.
        leaks: whether training rows that evaluation has too are left out.
        exact: whether training rows that are the same as others are.

    Raises:
        DataError: the disk has no room for the signatures.
    """
    rows = _Rows.read(train, evaluation)
    if not len(rows.position):
        nothing = np.zeros(0, np.int64)
        return Duplicates(nothing, nothing, np.zeros(0, bool))
    edges = [_neighbours(rows.content)]
    if similarity < 1:
        edges.append(_nearly_same(rows, [train, evaluation], similarity))
    found = np.unique(np.concatenate(edges), axis=0)
    is_across = rows.is_eval[found[:, 1]] & ~rows.is_eval[found[:, 0]]
    original = np.arange(len(rows.position))
    if exact:
        original = _first_of_group(found[~rows.is_eval[found[:, 1]]], len(original))
    is_leak = np.zeros(len(original), dtype=bool)
    if leaks:
        is_leak[found[is_across, 0]] = True
        original[found[is_across, 0]] = found[is_across, 1]
    chosen = np.flatnonzero((original != np.arange(len(original))) & ~rows.is_eval)
    return Duplicates(rows.position[chosen], rows.position[original[chosen]], is_leak[chosen])


@dataclass(frozen=True, slots=True)
class _Rows:
    """Accepted rows of both splits: those of training first, each split in order."""

    position: Array
    is_eval: Array
    content: Array

    @classmethod
    def read(cls, train: Path, evaluation: Path) -> "_Rows":
        splits = [_accepted(train), _accepted(evaluation)]
        is_eval = np.repeat([False, True], [len(position) for position, _ in splits])
        position, content = (np.concatenate(columns) for columns in zip(*splits, strict=True))
        order = np.lexsort((position, is_eval))
        return cls(position[order], is_eval[order], content[order])

    def places(self, position: Array, *, is_eval: bool) -> Array:
        """Where rows of a split stand."""
        first = int(np.searchsorted(self.is_eval, is_eval))
        last = int(np.searchsorted(self.is_eval, is_eval, side="right"))
        return first + np.searchsorted(self.position[first:last], position)


def _accepted(folder: Path) -> tuple[Array, Array]:
    """Positions and content hashes of the accepted rows of a split."""
    positions, contents = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for batch in _batches(folder, ["position", "copy", "content"]):
        content = batch["content"].to_numpy()
        is_row = (batch["copy"].to_numpy() == 0) & (content != 0)
        positions.append(batch["position"].to_numpy()[is_row])
        contents.append(content[is_row])
    return np.concatenate(positions), np.concatenate(contents)


def _batches(folder: Path, columns: list[str]) -> Any:
    for file in row_files(folder).values():
        yield from read_shard_rows(file, columns)


def _neighbours(keys: Array) -> Array:
    """(edges, 2): each row with the row before it that has its key, and with the first that has.

    Within a key the order of the rows stays, so the first index of an edge is the lower.
    """
    order = np.argsort(keys, kind="stable")
    is_same = keys[order[1:]] == keys[order[:-1]]
    run = np.concatenate([[0], np.cumsum(~is_same)])
    first = order[np.searchsorted(run, run)]
    later = np.flatnonzero(is_same) + 1
    edges = np.concatenate(
        [
            np.stack([order[later - 1], order[later]], axis=1),
            np.stack([first[later], order[later]], axis=1),
        ]
    )
    return np.unique(edges, axis=0)


def _nearly_same(rows: _Rows, folders: list[Path], similarity: float) -> Array:
    path = folders[0] / "signatures.npy"
    try:
        with writing_to(path.parent):
            table = _table_on_disk(path, len(rows.position))
        for folder, is_eval in zip(folders, (False, True), strict=True):
            _collect(folder, rows, table, is_eval=is_eval)
        table.flush()
        bands = range(NUM_PERMUTATIONS // _ROWS_PER_BAND)
        candidates = np.unique(
            np.concatenate(ray.get([_band_edges.remote(str(path), band) for band in bands])), axis=0
        )
        return candidates[_agreement(table, candidates) >= similarity - _SLACK]
    finally:
        path.unlink(missing_ok=True)


def _table_on_disk(path: Path, count: int) -> np.memmap[Any, np.dtype[np.uint32]]:
    """(count, 128) uint32: a mapped file, with room for all of it."""
    table = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint32, shape=(count, NUM_PERMUTATIONS)
    )
    if sys.platform == "linux":
        # a page that finds no room when it is written would end the process without a word
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return table


def _collect(folder: Path, rows: _Rows, table: Array, *, is_eval: bool) -> None:
    for batch in _batches(folder, ["position", "copy", "reason", "signature"]):
        batch = batch.filter(pc.equal(batch["copy"], 0))
        batch = batch.filter(pc.equal(batch["reason"], ""))
        places = rows.places(batch["position"].to_numpy(), is_eval=is_eval)
        flat = batch["signature"].combine_chunks().flatten().to_numpy()
        table[places] = flat.reshape(len(places), NUM_PERMUTATIONS)


@ray.remote
def _band_edges(path: str, band: int) -> Array:
    """Pairs of rows that agree in all places of a band."""
    table = np.load(path, mmap_mode="r")
    keys = np.zeros(len(table), dtype=np.uint64)
    for place in range(band * _ROWS_PER_BAND, (band + 1) * _ROWS_PER_BAND):
        keys = (keys ^ table[:, place]) * _MIX
        keys ^= keys >> np.uint64(29)
    return _neighbours(keys)


def _agreement(table: Array, pairs: Array) -> Array:
    """(pairs,): the share of places in which two signatures agree, an estimate of similarity."""
    shares = [np.zeros(0)]
    for start in range(0, len(pairs), _CHUNK):
        some = pairs[start : start + _CHUNK]
        shares.append((table[some[:, 0]] == table[some[:, 1]]).mean(axis=1))
    return np.concatenate(shares)


def _first_of_group(edges: Array, count: int) -> Array:
    """(count,): for each row the first one of its group."""
    from scipy.sparse import coo_array  # a quarter of a second, of every worker
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), dtype=np.int8)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    first = np.full(group.max(initial=-1) + 1, count)
    np.minimum.at(first, group, np.arange(count))
    chosen: Array = first[group]
    return chosen
