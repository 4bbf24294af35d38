"""Following the key file while the service runs, so that adding or revoking a key needs no restart.

The file is looked at every two seconds, off the event loop; no request waits for it. A file that
is damaged, missing or another one than at the start changes nothing and is logged: the keys that
were good stay. A replica on a machine that does not have the file keeps the keys that it was
given when it was deployed.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

from ray_sft.core import ServeError
from serve.background import in_background
from serve.keys.api_key import ApiKey
from serve.keys.file import read_key_file
from serve.keys.ring import KeyRing

__all__ = ["KeyWatch", "Keys", "follow_file"]

logger = logging.getLogger(__name__)

_Signature: TypeAlias = tuple[int, int, int]
_EVERY_S = 2.0


class Keys(Protocol):
    """Where the border finds keys."""

    def find(self, token: str) -> ApiKey:
        """As `KeyRing.find`."""


class KeyWatch:
    """The keys of a file as it is now, give or take two seconds."""

    def __init__(self, ring: KeyRing, path: Path, *, every_s: float = _EVERY_S) -> None:
        """Begins with ``ring``, which was read from ``path``, maybe on another machine."""
        self.ring = ring
        self._path = path
        self._every_s = every_s
        self._seen: _Signature | None = None
        self._complaint = ""

    def find(self, token: str) -> ApiKey:
        """As `KeyRing.find`, in the present keys."""
        return self.ring.find(token)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Follows the file within the context."""
        return in_background(self._follow)

    def look(self) -> None:
        """Takes up the file where it has changed."""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature == self._seen:
                return
            content = read_key_file(self._path)
        except (OSError, ServeError) as error:
            self._complain(str(error))
            return
        if content is None:
            self._complain(f"key file '{self._path}' is gone")
        elif content.id != self.ring.file_id:
            self._complain(f"key file '{self._path}' is not the one that the service began with")
        else:
            if self._seen is not None:
                logger.info("%d keys taken up from '%s'", len(content.keys), self._path)
            self.ring = self.ring.with_file(content)
            self._seen, self._complaint = signature, ""

    async def _follow(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(self._every_s)

    def _complain(self, complaint: str) -> None:
        """Once, not every two seconds."""
        if complaint != self._complaint:
            logger.error("%s; the service goes on with the keys that it has", complaint)
            self._complaint = complaint


def follow_file(ring: KeyRing, path: Path) -> Keys:
    """The keys of ``ring``, which follow the file where they come from one."""
    return ring if ring.file_id is None else KeyWatch(ring, path)
