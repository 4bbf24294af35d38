"""What the routes ask: files and batches of the key whose request is answered, and of no other.

Another key's file or batch does not exist. Work on the disk is done in threads; batches are run by
a `serve.batches.worker.BatchRunner`, which finds them on the disk.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ray_sft.core import ServeError
from serve.batches.args import BatchArgs
from serve.batches.figures import BatchFigures
from serve.batches.form import uploaded_file
from serve.batches.ids import new_batch_id, new_file_id, owner_of
from serve.batches.records import FINISHED, BatchRecord, FileRecord, KeyRecord
from serve.batches.schema import Batch, BatchRequest, FileObject
from serve.batches.store import Store
from serve.batches.upload import read_form
from serve.batches.worker import BatchRunner
from serve.caller import CALLER
from serve.errors import ApiError
from serve.keys.api_key import ApiKey
from serve.keys.scopes import scopes_for
from serve.models import Models

__all__ = ["Batches"]


class Batches:
    """The files and batches of a service."""

    def __init__(
        self,
        args: BatchArgs,
        models: Models,
        runner: BatchRunner,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``models`` are what a new batch is made for; ``clock`` tells the seconds since 1970."""
        self.args = args
        self.figures = BatchFigures(Path(args.folder))
        self._models = models
        self._runner = runner
        self._clock = clock
        self._store = Store(Path(args.folder))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sees to it that batches run, within the context.

        Raises:
            ServeError: the folder cannot be written.
        """
        folder = self._store.folder
        try:
            self._store.make_folder()
        except OSError as error:
            raise ServeError(
                f"batches.folder '{folder}' cannot be made: {error.strerror}. Name another one."
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ServeError(f"batches.folder '{folder}' cannot be written. Name another one.")
        async with self._runner.running():
            yield

    async def upload(self, content_type: str, body: AsyncIterator[bytes]) -> FileObject:
        """Keeps an uploaded file.

        Raises:
            ApiError: 400 or 413, it cannot be kept.
        """
        owner = _owner()
        await asyncio.to_thread(self._check_room, owner)
        draft = await asyncio.to_thread(self._store.draft, owner)
        try:
            form = await read_form(
                content_type, body, draft, max_file_bytes=self.args.max_file_bytes
            )
            shown = uploaded_file(form, now=int(self._clock()), keep_s=self.args.keep_s)
            os.replace(draft, self._store.content(owner, shown.id))  # noqa: PTH105 - atomic
        finally:
            draft.unlink(missing_ok=True)
        record = FileRecord(created_ns=time.time_ns(), shown=shown)
        await asyncio.to_thread(self._store.put_file, owner, record)
        return shown

    async def files(self) -> list[FileObject]:
        """The key's files, newest first."""
        found = await asyncio.to_thread(self._store.files, _owner())
        return [one.shown for one in found if one.shown.expires_at > self._clock()]

    async def file(self, file_id: str) -> FileObject:
        """A file; ApiError 404 where there is none."""
        record = await asyncio.to_thread(self._store.file, _owner(), file_id)
        if record is None or record.shown.expires_at <= self._clock():
            raise _not_found("file", file_id)
        return record.shown

    async def content(self, file_id: str) -> Path:
        """Where the content of a file lies; ApiError 404 where there is none."""
        file = await self.file(file_id)
        return self._store.content(_owner(), file.id)

    async def delete_file(self, file_id: str) -> None:
        """Deletes a file.

        Raises:
            ApiError: 404, there is none, or 409 while a batch reads it.
        """
        await self.file(file_id)
        for batch in await asyncio.to_thread(self._store.batches, _owner()):
            if batch.shown.input_file_id == file_id and not batch.is_finished:
                raise ApiError(
                    409,
                    f"file '{file_id}' is read by batch '{batch.shown.id}', which is "
                    f"{batch.shown.status}. Cancel it, or wait for its end.",
                    code="file_in_use",
                )
        await asyncio.to_thread(self._store.delete_file, _owner(), file_id)

    async def create(self, request: BatchRequest) -> Batch:
        """Makes a batch, to be run after those before it.

        Raises:
            ApiError: 403, the key may not use the batch's endpoint; 400, no such file, or the key
                has too many batches or files.
        """
        caller = CALLER.get()
        key = None if caller is None else caller.key
        _check_endpoint(key, request.endpoint)
        await self._check_input(request.input_file_id)
        owner = owner_of(key)
        await asyncio.to_thread(self._check_room, owner)
        await asyncio.to_thread(self._check_unfinished, owner)
        bundles = self._models.bundles
        record = BatchRecord(
            created_ns=time.time_ns(),
            owner=owner,
            key=None if key is None else KeyRecord.of(key),
            bundles={name: one.path for name, one in bundles.items()},
            fingerprints={name: one.fingerprint for name, one in bundles.items()},
            block_lines=self.args.block_lines,
            output_id=new_file_id(),
            error_id=new_file_id(),
            shown=Batch(
                id=new_batch_id(),
                endpoint=request.endpoint,
                input_file_id=request.input_file_id,
                created_at=int(self._clock()),
                metadata=request.metadata,
            ),
        )
        await asyncio.to_thread(self._store.put_batch, record)
        await self._runner.wake()
        return record.shown

    async def batches(self) -> list[Batch]:
        """The key's batches, newest first."""
        found = await asyncio.to_thread(self._store.batches, _owner())
        return [self._seen(record) for record in found]

    async def batch(self, batch_id: str) -> Batch:
        """A batch; ApiError 404 where there is none."""
        return self._seen(await self._record(batch_id))

    async def cancel(self, batch_id: str) -> Batch:
        """Asks for the end of a batch; what is answered already is kept.

        Raises:
            ApiError: 404, there is none; 409, it has ended otherwise.
        """
        record = await self._record(batch_id)
        if record.shown.status in FINISHED - {"cancelled"}:
            raise ApiError(
                409,
                f"batch '{batch_id}' is {record.shown.status} and cannot be cancelled any more.",
                code="batch_finished",
            )
        if not record.is_finished:
            now = int(self._clock())
            await asyncio.to_thread(self._store.wish_cancelled, record, now)
            await self._runner.wake()
        return self._seen(record)

    async def _record(self, batch_id: str) -> BatchRecord:
        record = await asyncio.to_thread(self._store.batch, _owner(), batch_id)
        if record is None:
            raise _not_found("batch", batch_id)
        return record

    async def _check_input(self, file_id: str) -> None:
        """Raises ApiError 400 where the field does not name an uploaded file of the key."""
        try:
            file = await self.file(file_id)
        except ApiError as error:
            raise ApiError(400, str(error), code=error.code, param="input_file_id") from None
        if file.purpose != "batch":
            raise ApiError(
                400,
                f"file '{file_id}' has the purpose {file.purpose}; a batch reads one that was "
                "uploaded with the purpose batch.",
                code="invalid_purpose",
                param="input_file_id",
            )

    def _seen(self, record: BatchRecord) -> Batch:
        """A batch with the wish to cancel it, which lies beside it until somebody heeds it."""
        wished_at = None if record.is_finished else self._store.wished_cancelled_at(record)
        if wished_at is None:
            return record.shown
        return record.showing(status="cancelling", cancelling_at=wished_at).shown

    def _check_room(self, owner: str) -> None:
        if len(self._store.files(owner)) >= self.args.max_files:
            raise ApiError(
                400,
                f"the key has {self.args.max_files} files, results included, as many as it may. "
                "Delete some.",
                code="too_many_files",
            )

    def _check_unfinished(self, owner: str) -> None:
        num = sum(not one.is_finished for one in self._store.batches(owner))
        if num >= self.args.max_unfinished:
            raise ApiError(
                429,
                f"the key has {num} batches that wait or run, as many as it may. Wait for one to "
                "end.",
                code="too_many_batches",
                headers={"retry-after": "60"},
            )


def _owner() -> str:
    caller = CALLER.get()
    return owner_of(None if caller is None else caller.key)


def _check_endpoint(key: ApiKey | None, endpoint: str) -> None:
    allowed: Sequence[str] = scopes_for("POST", endpoint)
    if key is not None and not any(scope in key.scopes for scope in allowed):
        raise ApiError(
            403,
            f"key '{key.name}' may not make a batch for {endpoint}: that takes the scope "
            f"{' or '.join(allowed)}; the key has {', '.join(key.scopes)}.",
            code="missing_scope",
            param="endpoint",
        )


def _not_found(what: str, name: str) -> ApiError:
    return ApiError(
        404,
        f"{what} '{name[:80]}' does not exist, or is not of this key.",
        code=f"{what}_not_found",
        param=f"{what}_id",
    )
