"""Claim: the service keeps at least 0.6 of bare ONNX Runtime's throughput.

Ours: requests a second through the whole service (HAProxy profile, keys, tokenising, batching,
JSON) with 32 connections and one text of 64 tokens a request. Peer: ONNX Runtime alone on the same
texts, already tokenised, in batches of the sizes that the service ran, with as many threads.
Beside it the same for short sentences, where HTTP is a larger part of the work.

    python -m benchmarks.http_classify [--quick] [--bundle FOLDER]
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Comparison, alternate, report, say
from benchmarks.http_service import (
    Service,
    bare_throughput,
    build_bundle,
    cut_texts,
    load,
    sentences,
    start_service,
)
from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor
from ray_sft.tasks import Example

NUM_CONNECTIONS = 32
NUM_TOKENS = 64


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--bundle", type=Path, help="a classifier's ONNX bundle; else built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(options.bundle) if options.bundle else build_bundle(Path(folder))
        rounds, seconds = (3, 2.0) if options.quick else (5, 8.0)
        with start_service(bundle) as service:
            predictor = Predictor(bundle, num_threads=service.args.num_cpus)
            texts = cut_texts(predictor, num_tokens=NUM_TOKENS)
            long = _compare(service, predictor, texts, rounds, seconds, "64 tokens")
            short = _compare(service, predictor, sentences(), rounds, seconds, "banking77")
    report(
        "http_classify",
        ours=long.median_ours,
        peer=long.median_peer,
        ratio=long.median_ours / long.median_peer,
        unit=f"texts/s, {NUM_CONNECTIONS} connections, {service.args.num_cpus} thread(s)",
        also={
            "banking77": {
                "ours": round(short.median_ours, 1),
                "peer": round(short.median_peer, 1),
                "ratio": round(short.median_ours / short.median_peer, 3),
            }
        },
    )


def _compare(
    service: Service,
    predictor: Predictor,
    texts: Sequence[str],
    rounds: int,
    seconds: float,
    what: str,
) -> Comparison:
    encoded = predictor.encode([{"text": text} for text in texts])
    examples = [item for item in encoded if isinstance(item, Example)]
    load(service, texts, num_connections=NUM_CONNECTIONS, seconds=1)  # warm
    sizes: dict[int, int] = {}

    def ours() -> float:
        before = service.batch_sizes()
        seen = load(service, texts, num_connections=NUM_CONNECTIONS, seconds=seconds)
        after = service.batch_sizes()
        sizes.clear()
        sizes.update({size: after[size] - before[size] for size in after})
        return seen.requests_per_s

    def peer() -> float:
        return bare_throughput(predictor, examples, sizes, seconds=seconds)

    comparison = alternate(ours, peer, rounds=rounds, what=what)
    ran = {size: count for size, count in sizes.items() if count}
    say(f"{what}: batches of the last round (size: how often): {ran}")
    return comparison


if __name__ == "__main__":
    main()
