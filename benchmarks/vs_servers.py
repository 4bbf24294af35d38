"""Claim: ahead of LitServe and infinity-emb on the same model.

Ours: the whole service, keys and limits included. LitServe and infinity-emb (engine optimum) run
the same ONNX graph in int8, with their own batching, each in a virtual environment of its own, made
below ``.peers/`` at the first run. Texts of 64 tokens and Banking77 sentences, 32 connections, one
peer at a time beside ours and asked in turn; the load generator shares the cores. LitServe gets as
many threads as ours; infinity-emb has no setting for them and takes all processors.

    python -m benchmarks.vs_servers [--quick]
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Comparison, alternate, peer_python, report, say
from benchmarks.http_peers import free_port, start_peer
from benchmarks.http_service import (
    Service,
    build_bundle,
    cut_texts,
    load,
    sentences,
    start_service,
)
from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor

NUM_CONNECTIONS = 32
NUM_TOKENS = 64
LITSERVE = ["litserve==0.2.19", "onnxruntime==1.32.0", "tokenizers"]
INFINITY = ["infinity-emb[server,torch,optimum]==0.0.78", "torch==2.13.0"]

_LITSERVE = """
import json, sys
import litserve as ls
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

given = json.loads(sys.argv[1])


class Classifier(ls.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = given["threads"]
        self.session = ort.InferenceSession(given["model"], options)
        self.names = [one.name for one in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(given["tokenizer"])
        self.tokenizer.enable_truncation(128)
        self.tokenizer.enable_padding()

    def decode_request(self, request):
        return request["input"]

    def batch(self, inputs):
        return inputs

    def predict(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            "token_type_ids": np.zeros_like(ids),
        }
        (logits,) = self.session.run(["logits"], {name: feeds[name] for name in self.names})
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        best = np.argsort(-output)[:5]
        return {"scores": [{"label": int(i), "score": float(output[i])} for i in best]}


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.005, api_path="/v1/classify")
    server = ls.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=given["port"], generate_client_file=False, log_level="error")
"""


def main() -> None:
    """Runs the comparisons and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds")
    options = parser.parse_args()
    rounds, seconds = (3, 3.0) if options.quick else (5, 8.0)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = build_bundle(folder)
        with start_service(bundle) as service:
            predictor = Predictor(bundle)
            texts = {
                "64 tokens": cut_texts(predictor, num_tokens=NUM_TOKENS),
                "banking77": sentences(),
            }
            for peer in ("litserve", "infinity"):
                with _peer(peer, bundle, folder, service) as other:
                    figures[peer] = {
                        kind: _figures(
                            _compare(service, other, some, rounds, seconds, f"{peer}, {kind}")
                        )
                        for kind, some in texts.items()
                    }
    worst = min(
        (one for kinds in figures.values() for one in kinds.values()), key=lambda one: one["ratio"]
    )
    report(
        "vs_servers",
        ours=worst["ours"],
        peer=worst["peer"],
        ratio=worst["ratio"],
        unit=f"requests/s, {NUM_CONNECTIONS} connections, {service.args.num_cpus} thread(s), the "
        "least favourable pair; load generator on the same cores",
        pairs=figures,
    )


@contextmanager
def _peer(name: str, bundle: Bundle, folder: Path, service: Service) -> Iterator["_Other"]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / f"{name}.log"
    if name == "litserve":
        python = peer_python("litserve", LITSERVE)
        program = folder / "litserve_peer.py"
        program.write_text(_LITSERVE, encoding="utf-8")
        given = {
            "model": str(bundle.model_dir / "model.onnx"),
            "tokenizer": str(bundle.processor_dir / "tokenizer.json"),
            "threads": service.args.num_cpus,
            "port": port,
        }
        other = _Other(Service(url, service.key, service.args), "/v1/classify", many=False)
        command: list[str | Path] = [python, program, json.dumps(given)]
    else:
        python = peer_python("infinity", INFINITY)
        other = _Other(Service(url, service.key, service.args), "/classify", many=True)
        command = ["env", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1", python.with_name("infinity_emb")]
        command += ["v2", "--model-id", ".", "--engine", "optimum", "--device", "cpu"]
        # its warm-up sends a text that is longer than the model, which this engine does not cut
        command += ["--no-model-warmup", "--served-model-name", "bench"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
    say(f"starting {name}")
    with start_peer(
        command,
        url=f"{url}{other.path}",
        body=other.body("hello"),
        log=log,
        folder=_hub_folder(bundle, folder),
    ):
        yield other


class _Other:
    """How a peer is asked."""

    def __init__(self, service: Service, path: str, *, many: bool) -> None:
        self.service, self.path, self.many = service, path, many

    def body(self, text: str) -> Mapping[str, object]:
        return {"model": "bench", "input": [text]} if self.many else {"input": text}


def _hub_folder(bundle: Bundle, folder: Path) -> Path:
    """The model's configuration, tokenizer and graph in one folder, as a hub has them."""
    merged = folder / "hub"
    merged.mkdir(exist_ok=True)
    sources = [*(folder / "trained" / "model").iterdir(), *bundle.processor_dir.iterdir()]
    for path in (*sources, bundle.model_dir / "model.onnx"):
        shutil.copy(path, merged / path.name)
    return merged


def _compare(
    service: Service,
    other: _Other,
    texts: Sequence[str],
    rounds: int,
    seconds: float,
    what: str,
) -> Comparison:
    def ours() -> float:
        seen = load(service, texts, num_connections=NUM_CONNECTIONS, seconds=seconds)
        return seen.requests_per_s

    def peer() -> float:
        return load(
            other.service,
            texts,
            num_connections=NUM_CONNECTIONS,
            seconds=seconds,
            path=other.path,
            body=other.body,
        ).requests_per_s

    ours(), peer()  # warm
    return alternate(ours, peer, rounds=rounds, what=what)


def _figures(found: Comparison) -> dict[str, float]:
    return {
        "ours": round(found.median_ours, 1),
        "peer": round(found.median_peer, 1),
        "ratio": round(found.median_ours / found.median_peer, 3),
    }


if __name__ == "__main__":
    main()
