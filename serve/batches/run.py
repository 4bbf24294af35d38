"""One batch on its way to its end: checked, answered block by block, and put together.

A batch that was begun by a process that is no more is taken up where that stopped: every step can
be done again, and blocks whose answers lie on disk are not answered again.
"""

import logging
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from serve.args import ServiceArgs
from serve.batches.args import BatchArgs
from serve.batches.figures import FigureBook
from serve.batches.job import Compute, Job, MakeApi, make_job
from serve.batches.lines import Block, Checked, check_lines
from serve.batches.parts import Outcome, Parts, Tally
from serve.batches.records import BatchRecord, FileRecord
from serve.batches.schema import BatchError, BatchErrors, FileObject, RequestCounts
from serve.batches.store import Store

__all__ = ["BatchRun", "Means"]

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
"""In a row and without a new block, before a batch is given up."""
_SAVE_EVERY_S = 1.0
_COUNT_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Means:
    """What every run uses."""

    args: ServiceArgs
    make_api: MakeApi
    compute: Compute
    store: Store
    book: FigureBook
    clock: Callable[[], float]
    is_stopped: Callable[[], bool]

    @property
    def batch_args(self) -> BatchArgs:
        """The arguments of batches."""
        assert self.args.batches is not None
        return self.args.batches


class _FailedError(Exception):
    """A batch that ends as failed, and why."""

    def __init__(self, *errors: BatchError) -> None:
        super().__init__(errors[0].message)
        self.errors = list(errors)


class BatchRun:
    """A batch that is not finished."""

    def __init__(self, record: BatchRecord, means: Means) -> None:
        """Nothing is done before `run`."""
        self._record = record
        self._means = means
        self._store = means.store
        self._parts = Parts(self._store.batch_folder(record.owner, record.shown.id) / "parts")
        self._input = self._store.content(record.owner, record.shown.input_file_id)
        self._tallies: dict[int, Tally] = {}
        self._saved_at = self._counted_at = 0.0

    def run(self) -> None:
        """Brings it to its end, or as far as it comes before it is stopped."""
        try:
            if not self._store.cancel_path(self._record).exists():
                checked = self._begin()
                self._answer(checked.blocks)
                if self._means.is_stopped() and len(self._tallies) < len(checked.blocks):
                    return
        except _FailedError as failure:
            logger.warning("batch %s failed: %s", self._record.shown.id, failure)
            self._finish(failure.errors)
        else:
            self._finish()

    def _begin(self) -> Checked:
        checked = self._check()
        self._tallies = self._parts.tallies()
        counts = self._counts().model_copy(update={"total": checked.num_lines})
        self._show(
            status="in_progress",
            in_progress_at=self._record.shown.in_progress_at or int(self._means.clock()),
            request_counts=counts,
        )
        if self._tallies:
            logger.info("batch %s goes on after %s", self._record.shown.id, counts)
        return checked

    def _check(self) -> Checked:
        shown = self._record.shown
        if self._store.file(self._record.owner, shown.input_file_id) is None:
            raise _FailedError(
                BatchError(
                    code="file_not_found", message="the input file is gone.", param="input_file_id"
                )
            )
        checked = check_lines(
            self._input,
            shown.endpoint,
            self._means.batch_args,
            block_lines=self._record.block_lines,
        )
        if checked.errors:
            raise _FailedError(*checked.errors)
        for name, path in self._record.bundles.items():
            _check_bundle(name, path, self._record.fingerprints[name])
        return checked

    def _answer(self, blocks: Sequence[Block]) -> None:
        """Answers the blocks that are missing, trying again what fails as a whole."""
        failures = 0
        while missing := [one for one in blocks if one.index not in self._tallies]:
            num_done = len(self._tallies)
            try:
                for tally in self._means.compute(self._job(), missing):
                    self._note(tally)
                    if self._means.is_stopped():
                        return
            except Exception as error:
                failures = 1 if len(self._tallies) > num_done else failures + 1
                logger.exception("batch %s: attempt %d failed", self._record.shown.id, failures)
                if failures == _ATTEMPTS:
                    raise _FailedError(_given_up(self._record)) from error

    def _job(self) -> Job:
        return make_job(
            self._means.args,
            self._record,
            self._means.make_api,
            input_path=self._input,
            parts=self._parts.attempt(secrets.token_hex(8)),
            cancel=self._store.cancel_path(self._record),
        )

    def _note(self, tally: Tally) -> None:
        """Counts a block in, and shows it now and then."""
        self._tallies[tally.index] = tally
        self._means.book.add_lines(completed=tally.completed, failed=tally.failed)
        if monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._show(request_counts=self._counts())

    def _finish(self, errors: Sequence[BatchError] = ()) -> None:
        now = int(self._means.clock())
        self._tallies = self._parts.tallies()
        counts = self._counts()
        self._show(status="finalizing", finalizing_at=now, request_counts=counts)
        changes: dict[str, Any] = {}
        if counts.completed:
            changes["output_file_id"] = self._join("completed", self._record.output_id)
        if counts.failed:
            changes["error_file_id"] = self._join("failed", self._record.error_id)
        self._show(**changes, **self._ending(counts, errors))
        shutil.rmtree(self._parts.folder, ignore_errors=True)

    def _ending(self, counts: RequestCounts, errors: Sequence[BatchError]) -> dict[str, Any]:
        """The last status and its time."""
        now = int(self._means.clock())
        if errors:
            shown = BatchErrors(data=list(errors))
            return {"status": "failed", "failed_at": now, "errors": shown}
        wished_at = self._store.wished_cancelled_at(self._record)
        is_whole = 0 < counts.total == counts.completed + counts.failed
        if wished_at is not None and not is_whole:
            return {"status": "cancelled", "cancelling_at": wished_at, "cancelled_at": now}
        return {"status": "completed", "completed_at": now}

    def _join(self, outcome: Outcome, file_id: str) -> str:
        """Makes a file of the owner from the lines of one outcome."""
        path = self._store.content(self._record.owner, file_id)
        self._parts.join(outcome, path)
        now = self._means.clock()
        name = "output" if outcome == "completed" else "error"
        shown = FileObject(
            id=file_id,
            bytes=path.stat().st_size,
            created_at=int(now),
            expires_at=int(now) + self._means.batch_args.keep_s,
            filename=f"{self._record.shown.id}_{name}.jsonl",
            purpose="batch_output",
        )
        record = FileRecord(created_ns=int(now * 1e9), shown=shown)
        self._store.put_file(self._record.owner, record)
        return file_id

    def _counts(self) -> RequestCounts:
        done = self._tallies.values()
        return RequestCounts(
            total=self._record.shown.request_counts.total,
            completed=sum(one.completed for one in done),
            failed=sum(one.failed for one in done),
        )

    def _show(self, **changes: Any) -> None:
        self._record = self._record.showing(**changes)
        self._store.put_batch(self._record)
        self._saved_at = monotonic()
        if "status" in changes or self._saved_at - self._counted_at >= _COUNT_EVERY_S:
            self._means.book.write(self._store.everyones_batches())
            self._counted_at = self._saved_at


def _check_bundle(name: str, path: str, expected: str) -> None:
    try:
        found = Bundle.open(path).fingerprint
    except BundleError as error:
        message = f"the bundle of model '{name}' cannot be used any more: {error}"
        raise _FailedError(BatchError(code="bundle_changed", message=message)) from error
    if found != expected:
        message = (
            f"the bundle of model '{name}' is another one than when the batch was made: its "
            f"fingerprint is {found[:12]}, and was {expected[:12]}. Make a new batch of what has "
            "no answer."
        )
        raise _FailedError(BatchError(code="bundle_changed", message=message))


def _given_up(record: BatchRecord) -> BatchError:
    return BatchError(
        code="internal_error",
        message=f"the service failed on this batch {_ATTEMPTS} times ({record.shown.id}). What was "
        "answered before is in the output file.",
    )
