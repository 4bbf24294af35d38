"""The peer of `benchmarks.vs_serve_batch`: what Ray Serve's documentation leads to.

FastAPI in a deployment, `@serve.batch`, Ray's own proxy, everything as it is by default but for
the number of requests under way, whose default of 5 would leave the batches empty.

    python -m benchmarks.serve_batch_app BUNDLE NUM_THREADS PORT
"""

import signal
import sys
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.config import HTTPOptions

from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor
from ray_sft.tasks import Example

api = FastAPI()


class Query(BaseModel):
    """One text."""

    input: str


class Classifier:
    """The same tokenizer, session and answers as in our service."""

    def __init__(self, path: str, num_threads: int) -> None:
        """Loads the bundle."""
        self.predictor = Predictor(Bundle.open(path), num_threads=num_threads)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def answer(self, texts: list[str]) -> list[dict[str, Any]]:
        """One answer a text."""
        encoded = self.predictor.encode([{"text": text} for text in texts])
        examples = [one for one in encoded if isinstance(one, Example)]
        return [response.model_dump() for response in self.predictor.run(examples)]

    @api.post("/v1/classify")
    async def classify(self, query: Query) -> dict[str, Any]:
        """The labels of a text."""
        found: dict[str, Any] = await self.answer(query.input)
        return found


def main() -> None:
    """Serves until it is interrupted."""
    bundle, num_threads, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    place = serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": num_threads})
    serve.run(place(serve.ingress(api)(Classifier)).bind(bundle, num_threads))
    try:
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()  # type: ignore[no-untyped-call] # untyped in Ray
        ray.shutdown()


if __name__ == "__main__":
    main()
