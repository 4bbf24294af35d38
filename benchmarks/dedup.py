"""Near duplicates among tweets: how many planted ones are found, and what that costs.

Ours is the data stage's own: signatures, then banding and comparison over shards. The peer is
datasketch's `MinHashLSH` on the same signatures' parameters, in one process. Both see the same
stock tweets, of which one in twenty stands there again with a word or two changed so that the
Jaccard similarity of their character 5-grams is 0.8 or a little more; recall is the share of those
that are found. `cost_ratio` is ours per row on all rows over that on a ninth of them: 1 is linear.
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import xxhash
from datasketch import MinHash, MinHashLSH

from benchmarks.harness import data_file, report, say
from ray_sft.data.quality import find_duplicates
from ray_sft.data.quality.duplicates import NUM_PERMUTATIONS, signature
from ray_sft.data.shards import write_shard
from ray_sft.ray_session import start_ray

_SIMILARITY = 0.8
_PLANTED_OF = 20
_ROWS_PER_SHARD = 5000


@dataclass(frozen=True, slots=True)
class Tweets:
    """Texts, and which of them repeat which."""

    texts: list[str]
    planted: dict[int, int]
    """By row, the row that it nearly repeats."""


def tweets(count: int) -> Tweets:
    """So many different tweets, the planted ones among them."""
    with data_file("stocknet", "tweets_by_time.jsonl").open(encoding="utf-8") as file:
        texts = list(dict.fromkeys(json.loads(line)["text"] for line in file))
    rng = random.Random(0)
    num_planted = count // _PLANTED_OF
    chosen = [text for text in texts[: count - num_planted] if len(_plain(text)) > 40]
    kept, planted = texts[: count - num_planted], {}
    places = {text: place for place, text in enumerate(kept)}
    for text in rng.sample(chosen, min(num_planted, len(chosen))):
        planted[len(kept)] = places[text]
        kept.append(_near(text, rng))
    return Tweets(kept, planted)


def _near(text: str, rng: random.Random) -> str:
    """``text`` changed as far as the similarity allows."""
    near = text
    for _ in range(200):
        at = rng.randrange(len(near))
        changed = near[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + near[at + 1 :]
        if jaccard(text, changed) < _SIMILARITY:
            return near
        near = changed
    return near


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shingles(text: str) -> set[str]:
    plain = _plain(text)
    return {plain[at : at + 5] for at in range(max(1, len(plain) - 4))}


def jaccard(one: str, other: str) -> float:
    """The share of common character 5-grams, counted."""
    a, b = _shingles(one), _shingles(other)
    return len(a & b) / len(a | b)


@ray.remote
def _sign(folder: str, first: int, texts: list[str]) -> None:
    count = len(texts)
    table = pa.table(
        {
            "position": pa.array(range(first, first + count), pa.int64()),
            "copy": pa.array([0] * count, pa.int32()),
            "reason": [""] * count,
            "content": pa.array(
                [xxhash.xxh64_intdigest(text.encode()) for text in texts], pa.uint64()
            ),
            "signature": pa.array([signature(text) for text in texts], pa.list_(pa.uint32())),
            "scalar.none": [0] * count,
        }
    )
    write_shard(Path(folder), f"{first:09}", [table])


def ours(data: Tweets) -> tuple[float, set[int]]:
    """Rows a second, and the rows that were found to repeat others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ray.get(_sign.remote(str(folder / "eval"), 0, ["none of these"]))
        began = time.perf_counter()
        starts = range(0, len(data.texts), _ROWS_PER_SHARD)
        ray.get(
            [
                _sign.remote(str(folder / "train"), s, data.texts[s : s + _ROWS_PER_SHARD])
                for s in starts
            ]
        )
        found = find_duplicates(
            folder / "train", folder / "eval", similarity=_SIMILARITY, leaks=False, exact=True
        )
        seconds = time.perf_counter() - began
    return len(data.texts) / seconds, set(found.positions.tolist())


def peer(data: Tweets) -> tuple[float, set[int]]:
    """The same of datasketch's index."""
    began = time.perf_counter()
    index = MinHashLSH(threshold=_SIMILARITY, num_perm=NUM_PERMUTATIONS)
    found = set()
    for place, text in enumerate(data.texts):
        sketch = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
        sketch.update_batch([shingle.encode() for shingle in _shingles(text)])
        if index.query(sketch):
            found.add(place)
        index.insert(place, sketch)
    return len(data.texts) / (time.perf_counter() - began), found


def main() -> None:
    """Runs both, and ours on a ninth of the rows too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    few = 1_000 if parser.parse_args().quick else 10_000
    with start_ray():
        ours(tweets(500))  # starts Ray's processes, which is not counted
        rates, recalls = {}, {}
        for count in (few, 9 * few):
            data = tweets(count)
            rates[count], found = ours(data)
            recalls[count] = float(np.mean([row in found for row in data.planted]))
            say(f"ours, {count} rows: {rates[count]:.0f} rows/s, recall {recalls[count]:.4f}")
    peer_rate, peer_found = peer(data)
    peer_recall = float(np.mean([row in peer_found for row in data.planted]))
    say(f"datasketch, {count} rows: {peer_rate:.0f} rows/s, recall {peer_recall:.4f}")
    report(
        "dedup",
        ours=rates[9 * few],
        peer=peer_rate,
        ratio=rates[9 * few] / peer_rate,
        unit="rows/s",
        recall=round(recalls[9 * few], 4),
        peer_recall=round(peer_recall, 4),
        cost_ratio=round(rates[few] / rates[9 * few], 3),
        others_found=len(found - set(data.planted)),
        rows=9 * few,
    )


if __name__ == "__main__":
    main()
