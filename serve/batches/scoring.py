"""Answering the lines of a batch as the online routes do: by the same application.

The application has models of its own, and behind it the same queues and the same engine, so that
lines which are answered at the same time share batches of the models. Around it stands the same
border; since the batch's key was asked when the batch was made, that border asks for none, and
the key's models are heeded line by line. Limits of keys do not count lines.
"""

import asyncio
import json
import uuid
from collections.abc import Sequence
from time import monotonic

import httpx

from serve.batches.job import Job
from serve.batches.lines import Block, InputLine, read_block
from serve.batches.parts import Tally, write_part
from serve.border import Border
from serve.caller import CALLER, Caller
from serve.errors import ApiError, error_body
from serve.keys import KeyRing
from serve.limits import BodyLimit
from serve.metrics import ServiceMetrics
from serve.models import load_models

__all__ = ["Scorer"]

_STREAMING = ("/v1/completions", "/v1/chat/completions")
_LONGEST_PAUSE_S = 5.0


class Scorer:
    """Holds the application. Use it from one thread at a time."""

    def __init__(self, job: Job) -> None:
        """Loads every bundle.

        Raises:
            BundleError: a bundle is not the one that the batch was made for, or damaged.
        """
        self._job = job
        metrics = ServiceMetrics()
        num_threads = job.batches.num_cpus
        self._models = load_models(job.args, num_threads=num_threads, metrics=metrics)
        api = job.make_api(job.args, self._models, metrics)
        self._app = Border(
            BodyLimit(api, max_body_bytes=job.args.max_body_bytes),
            keys=KeyRing(()),
            metrics=metrics,
            public_paths=[job.endpoint],
            known_paths=[],
            request_timeout_s=job.batches.line_timeout_s,
            adds_request_id=True,
        )
        self._loop = asyncio.Runner()

    def score(self, block: Block) -> Tally:
        """Answers a block and writes what came out.

        Once the batch is cancelled, requests that were not begun are left out.
        """
        lines = read_block(self._job.input, block)
        answers = self._loop.run(self._answer_all(lines))
        completed = [line for is_completed, line in answers if is_completed]
        failed = [line for is_completed, line in answers if not is_completed]
        return write_part(self._job.parts, block.index, completed, failed)

    def close(self) -> None:
        """Frees the models."""
        self._loop.close()
        self._models.close()

    async def _answer_all(self, lines: Sequence[InputLine]) -> list[tuple[bool, bytes]]:
        places = asyncio.Semaphore(self._job.batches.lines_at_once)
        transport = httpx.ASGITransport(app=self._app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://batch", timeout=None) as client,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(self._answer(line, client, places)) for line in lines]
        return [answer for task in tasks if (answer := task.result()) is not None]

    async def _answer(
        self, line: InputLine, client: httpx.AsyncClient, places: asyncio.Semaphore
    ) -> tuple[bool, bytes] | None:
        """The line of the output and whether it is a success; None once the batch is cancelled."""
        async with places:
            if self._job.cancel.exists():
                return None
            request_id = uuid.uuid4().hex
            if self._job.endpoint in _STREAMING and line.body.get("stream") not in (None, False):
                status, body = 400, error_body(_no_streams())
            else:
                reply = await self._ask(line, client, request_id)
                status, body = reply.status_code, reply.content
        return 200 <= status < 300, _output_line(line.custom_id, request_id, status, body)

    async def _ask(
        self, line: InputLine, client: httpx.AsyncClient, request_id: str
    ) -> httpx.Response:
        """The reply; asks again while the models' queues are full, which is no fault of a line."""
        if self._job.key is not None:
            CALLER.set(Caller(self._job.key.key(), None))
        headers = {"content-type": "application/json", "x-request-id": request_id}
        ends_at = monotonic() + self._job.batches.line_timeout_s
        while True:
            reply = await client.post(self._job.endpoint, content=line.content(), headers=headers)
            if reply.status_code != 429 or monotonic() >= ends_at:
                return reply
            await asyncio.sleep(min(float(reply.headers["retry-after"]), _LONGEST_PAUSE_S))


def _no_streams() -> ApiError:
    return ApiError(
        400,
        "a line of a batch has no stream. Leave stream out.",
        code="unsupported_parameter",
        param="stream",
    )


def _output_line(custom_id: str, request_id: str, status: int, body: bytes) -> bytes:
    """A line of OpenAI's form, with the body of the reply as it is.

    A body of JSON has line ends only between its parts, where a space means the same.
    """
    head = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id}
    response = {"status_code": status, "request_id": request_id}
    return b'%s, "response": %s, "body": %s}, "error": null}\n' % (
        json.dumps(head, ensure_ascii=False).encode()[:-1],
        json.dumps(response).encode()[:-1],
        body.replace(b"\n", b" ").replace(b"\r", b" "),
    )
