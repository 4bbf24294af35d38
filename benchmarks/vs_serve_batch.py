"""Claim: at least four times the requests of plain Ray Serve with FastAPI and `@serve.batch`.

Ours: the whole service, keys and limits included. Peer: `benchmarks.serve_batch_app`, the same
model in the same session behind Ray Serve's defaults. Banking77 sentences, 32 connections, both on
these cores at once and asked in turn; the load generator shares the cores.

    python -m benchmarks.vs_serve_batch [--quick] [--bundle FOLDER]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import alternate, report
from benchmarks.http_peers import free_port, start_peer
from benchmarks.http_service import Service, build_bundle, load, sentences, start_service
from ray_sft.bundle import Bundle

NUM_CONNECTIONS = 32


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--bundle", type=Path, help="a classifier's ONNX bundle; else built")
    options = parser.parse_args()
    rounds, seconds = (3, 3.0) if options.quick else (5, 8.0)
    texts = sentences()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = Bundle.open(options.bundle) if options.bundle else build_bundle(folder)
        with start_service(bundle) as service:
            url = f"http://127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "benchmarks.serve_batch_app", str(bundle.path)]
            command += [str(service.args.num_cpus), url.rsplit(":", 1)[1]]
            peer = Service(url, service.key, service.args)
            body = {"input": texts[0]}
            log = folder / "peer.log"
            with start_peer(command, url=f"{url}/v1/classify", body=body, log=log):

                def ask(one: Service) -> float:
                    seen = load(one, texts, num_connections=NUM_CONNECTIONS, seconds=seconds)
                    return seen.requests_per_s

                ask(service), ask(peer)  # warm
                found = alternate(
                    lambda: ask(service), lambda: ask(peer), rounds=rounds, what="requests/s"
                )
    report(
        "vs_serve_batch",
        ours=found.median_ours,
        peer=found.median_peer,
        ratio=found.median_ours / found.median_peer,
        unit=f"requests/s, {NUM_CONNECTIONS} connections, {service.args.num_cpus} thread(s), load "
        "generator on the same cores",
    )


if __name__ == "__main__":
    main()
