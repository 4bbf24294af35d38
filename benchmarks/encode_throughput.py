"""Rows encoded and packed, against the tokenizer alone on the same texts and cores.

Ours is the data stage and the plan of an epoch: reading, checking, encoding on Ray Data, shards,
index, and the packing of every step. The peer is ``encode_batch_fast`` of the bare ``tokenizers``
library on texts that are in memory already. Both have two threads or tasks. Short sentences with a
WordPiece vocabulary and passages of novels with a byte-level one; the worse ratio counts.
"""

import argparse
import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Comparison, alternate, data_file, report, say
from ray_sft.data import Jsonl, SampleStore, StepPlan
from ray_sft.data.encode import encode
from ray_sft.data.index import write_index
from ray_sft.models import load_processor, locate, train_tokenizer
from ray_sft.ray_session import start_ray
from ray_sft.tasks import AnyTask, CausalLanguageModel, SequenceClassification

NUM_THREADS = 2
PASSAGE_CHARS = 2000
PEER_BATCH = 1000
TOKENS_PER_STEP = 8192
VOCAB_SIZE = 8000


@dataclass(frozen=True, slots=True)
class Work:
    """Texts, and what is made of them."""

    name: str
    texts: Sequence[str]
    source: Jsonl
    task: AnyTask
    processor_dir: Path
    row_length: int | None


def sentences(folder: Path, *, times: int) -> Work:
    """Bank customers' sentences, each so many times with a number of its own."""
    with data_file("banking77", "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["category"] for row in rows})
    lines = [
        {"text": f"{row['text']} ({number})", "label": row["category"]}
        for number in range(times)
        for row in rows
    ]
    return Work(
        "sentences",
        [line["text"] for line in lines],
        _written(folder / "sentences.jsonl", lines),
        SequenceClassification(labels=tuple(labels), max_length=128),
        Path(locate("embedded/minilm").processor),
        row_length=None,
    )


def passages(folder: Path, *, share: int) -> Work:
    """Pieces of novels, one of so many."""
    any_book = data_file("books", "jane_austen", "Pride and Prejudice.md").parents[1]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(any_book.rglob("*.md")))
    pieces = [text[at : at + PASSAGE_CHARS] for at in range(0, len(text), PASSAGE_CHARS)]
    pieces = [piece for piece in pieces[::share] if piece.strip()]
    processor_dir = folder / "processor"
    train_tokenizer(pieces, vocab_size=VOCAB_SIZE).save_pretrained(processor_dir)
    return Work(
        "passages",
        pieces,
        _written(folder / "passages.jsonl", [{"text": piece} for piece in pieces]),
        CausalLanguageModel(format="text", max_length=1024),
        processor_dir,
        row_length=1024,
    )


def _written(path: Path, lines: Sequence[dict[str, str]]) -> Jsonl:
    """The lines in as many files as there are tasks, as data of any size has them."""
    path.mkdir()
    for number in range(NUM_THREADS):
        text = "".join(json.dumps(line) + "\n" for line in lines[number::NUM_THREADS])
        (path / f"{number}.jsonl").write_text(text, encoding="utf-8")
    return Jsonl(path=str(path))


def ours(work: Work, folder: Path) -> float:
    """Rows a second from the files to the packed steps of an epoch."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    encode(
        work.source,
        work.task,
        processor_dir=work.processor_dir,
        out_dir=folder,
        num_tasks=NUM_THREADS,
    )
    write_index(folder)
    store = SampleStore(folder)
    plan = StepPlan(store.lengths, TOKENS_PER_STEP, seed=0)
    for samples in plan.epoch_steps(0):
        plan.micro_batches(samples, num=2, row_length=work.row_length)
    seconds = time.perf_counter() - began
    assert len(store) == len(work.texts)
    return len(store) / seconds


def bare(work: Work) -> float:
    """Rows a second of the tokenizer alone."""
    tokenizer = load_processor(work.processor_dir).backend_tokenizer
    began = time.perf_counter()
    num_tokens = 0
    for start in range(0, len(work.texts), PEER_BATCH):
        found = tokenizer.encode_batch_fast(list(work.texts[start : start + PEER_BATCH]))
        num_tokens += sum(len(encoded.ids) for encoded in found)
    return len(work.texts) / (time.perf_counter() - began)


def main() -> None:
    """Runs both kinds of text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    quick = parser.parse_args().quick
    os.environ |= {"RAYON_NUM_THREADS": str(NUM_THREADS), "TOKENIZERS_PARALLELISM": "true"}
    found: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        for work in (
            sentences(folder, times=2 if quick else 10),
            passages(folder, share=4 if quick else 1),
        ):
            say(f"{work.name}: {len(work.texts)} rows")
            ours(work, folder / "warm")  # starts Ray's processes, which is not counted
            found[work.name] = alternate(
                partial(ours, work, folder / "shards"),
                partial(bare, work),
                rounds=2 if quick else 5,
                what=f"{work.name}, rows/s",
            )
    ratios = {kind: one.median_ours / one.median_peer for kind, one in found.items()}
    worst = min(ratios, key=lambda kind: ratios[kind])
    report(
        "encode_throughput",
        ours=found[worst].median_ours,
        peer=found[worst].median_peer,
        ratio=ratios[worst],
        unit="rows/s",
        threads=NUM_THREADS,
        **{f"{kind}_ratio": round(ratio, 3) for kind, ratio in ratios.items()},
    )


if __name__ == "__main__":
    main()
