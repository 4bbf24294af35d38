"""Changed copies a second: our character noise and EDA against nlpaug's nearest, one thread each.

nlpaug has a virtual environment of its own, made below ``.peers/`` at the first run. Its synonyms
need WordNet's files, which no package index has, so EDA stands against its random swaps and
deletions of words; its keyboard slips stand against our character noise. Both sides at their own
defaults: nlpaug changes up to ten words of a text, ours the letters and words that its rates hit.
"""

import argparse
import csv
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.harness import Comparison, alternate, data_file, peer_python, report
from ray_sft.data.augment import Augmentation, CharacterNoise, Draws, Eda

ROUNDS = 5
PEER = """
import json, sys, time
import nlpaug.augmenter.char as nac
import nlpaug.augmenter.word as naw

made = {"character_noise": [nac.KeyboardAug()],
        "eda": [naw.RandomWordAug(action="swap"), naw.RandomWordAug(action="delete")]}
for line in sys.stdin:
    name, texts = json.loads(line)
    augmenters = made[name]
    for augmenter in augmenters:
        augmenter.augment(texts[0])
    began = time.perf_counter()
    for number, text in enumerate(texts):
        augmenters[number % len(augmenters)].augment(text)
    print(len(texts) / (time.perf_counter() - began), flush=True)
"""


def ours(operation: Augmentation, texts: Sequence[str]) -> float:
    """Rows a second, in blocks as the data stage has them; drawing the generators counts too."""
    rows = [{"text": text, "label": "x"} for text in texts]
    operation.change_rows(rows[:1], [Draws(0)])
    began = time.perf_counter()
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        rngs = [Draws(0, start + number) for number in range(len(block))]
        operation.change_rows(block, rngs)
    return len(rows) / (time.perf_counter() - began)


def main() -> None:
    """Runs both kinds on Banking77's training sentences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, two rounds")
    quick = parser.parse_args().quick
    with data_file("banking77", "train.csv").open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts = texts[: len(texts) // 10] if quick else texts
    python = peer_python("nlpaug", ["nlpaug==1.1.11"])
    with subprocess.Popen(
        [python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def peer(name: str) -> Callable[[], float]:
            def run() -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps([name, texts]) + "\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            return run

        found: dict[str, Comparison] = {}
        for operation in (CharacterNoise(), Eda()):
            found[operation.kind] = alternate(
                partial(ours, operation, texts),
                peer(operation.kind),
                rounds=2 if quick else ROUNDS,
                what=operation.kind,
            )
        assert process.stdin is not None
        process.stdin.close()
    ratios = {kind: one.median_ours / one.median_peer for kind, one in found.items()}
    worst = min(ratios, key=lambda kind: ratios[kind])
    report(
        "augment_throughput",
        ours=found[worst].median_ours,
        peer=found[worst].median_peer,
        ratio=ratios[worst],
        unit="rows/s",
        rows=len(texts),
        **{f"{kind}_ratio": round(ratio, 2) for kind, ratio in ratios.items()},
    )


if __name__ == "__main__":
    main()
