"""Claim: over one connection the service adds at most 2 ms to bare inference, at the median.

Ours: the median of a request of one text of 64 tokens through the whole service, less the peer's.
Peer: the median of ONNX Runtime alone on the same text, already tokenised, with as many threads.

    python -m benchmarks.http_overhead [--quick] [--bundle FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import alternate, report
from benchmarks.http_service import bare_latency_ms, build_bundle, cut_texts, load, start_service
from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor
from ray_sft.tasks import Example

NUM_TOKENS = 64
LIMIT_MS = 2.0


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--bundle", type=Path, help="a classifier's ONNX bundle; else built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(options.bundle) if options.bundle else build_bundle(Path(folder))
        rounds, seconds = (5, 2.0) if options.quick else (9, 5.0)
        with start_service(bundle) as service:
            predictor = Predictor(bundle, num_threads=service.args.num_cpus)
            texts = cut_texts(predictor, num_tokens=NUM_TOKENS)
            encoded = predictor.encode([{"text": text} for text in texts])
            examples = [item for item in encoded if isinstance(item, Example)]
            load(service, texts, num_connections=1, seconds=1)  # warm
            seen = alternate(
                lambda: load(service, texts, num_connections=1, seconds=seconds).median_ms,
                lambda: bare_latency_ms(predictor, examples, seconds=seconds),
                rounds=rounds,
                what="milliseconds of one text",
            )
    added = seen.median_ours - seen.median_peer
    report(
        "http_overhead",
        ours=added,
        peer=seen.median_peer,
        ratio=seen.median_peer / seen.median_ours,
        unit="ms added by the service / ms of bare inference; ratio: its share of the whole",
        limit=LIMIT_MS,
    )


if __name__ == "__main__":
    main()
