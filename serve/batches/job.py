"""What a process is told that works on a batch; it is sent from process to process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from starlette.types import ASGIApp

from serve.args import ServiceArgs
from serve.batches.args import BatchArgs
from serve.batches.lines import Block
from serve.batches.parts import Tally
from serve.batches.records import BatchRecord, KeyRecord
from serve.metrics import ServiceMetrics
from serve.models import Models

__all__ = ["Compute", "Job", "MakeApi", "make_job"]

MakeApi: TypeAlias = Callable[[ServiceArgs, Models, ServiceMetrics], ASGIApp]
"""The routes on models, without a border; `serve.ingress.bare_api`. Given from outside, since the
application that it makes has batches itself."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything but the block."""

    args: ServiceArgs
    """Of the application that answers: no applications, no candidates, no batches."""
    batches: BatchArgs
    make_api: MakeApi
    key: KeyRecord | None
    endpoint: str
    input: Path
    parts: Path
    """Where this attempt's answers go."""
    cancel: Path
    """When this is there, nothing more is answered."""


Compute: TypeAlias = Callable[[Job, Sequence[Block]], Iterator[Tally]]
"""Answers blocks, in any order, and tells the tally of each once it is on disk."""


def make_job(
    args: ServiceArgs,
    record: BatchRecord,
    make_api: MakeApi,
    *,
    input_path: Path,
    parts: Path,
    cancel: Path,
) -> Job:
    """The job of a batch, on the bundles that were served when it was made.

    Nobody waits for an answer, so a text is never turned away for how long it would wait.
    """
    assert args.batches is not None
    texts_at_once = args.batches.lines_at_once * args.max_inputs
    update = {
        "bundles": record.bundles,
        "fingerprints": record.fingerprints,
        "max_queued": max(args.max_queued, texts_at_once),
        "max_wait_s": max(args.max_wait_s, args.batches.line_timeout_s),
        "num_cpus": args.batches.num_cpus,
        "releases": {},
        **dict.fromkeys(("assistant", "monitor", "recommend", "batches", "tracing")),
    }
    return Job(
        args=args.model_copy(update=update),
        batches=args.batches,
        make_api=make_api,
        key=record.key,
        endpoint=record.shown.endpoint,
        input=input_path,
        parts=parts,
        cancel=cancel,
    )
