"""The answers of a batch, block by block, and the two files that they become.

A block's answers are three files, of which the last, its tally, says that the others are whole.
Each attempt at a batch writes into a folder of its own: processes of an attempt that was given up
may go on for a moment, and disturb nothing.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from ray_sft.core.whole_files import whole_file, write_whole

__all__ = ["Parts", "Tally", "write_part"]

Outcome = Literal["completed", "failed"]


class Tally(BaseModel):
    """How the requests of a block ended; of a batch that was cancelled, some may have neither."""

    index: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What all attempts at a batch have written."""

    folder: Path

    def attempt(self, name: str) -> Path:
        """The folder of a new attempt."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def tallies(self) -> dict[int, Tally]:
        """The tallies of the blocks that are done, by index."""
        return {index: _tally(path) for index, path in self._done().items()}

    def join(self, outcome: Outcome, path: Path) -> None:
        """Writes the lines of one outcome of all blocks to ``path``, in the order of the input."""
        with whole_file(path) as draft, draft.open("wb") as out:
            for _, done in sorted(self._done().items()):
                with done.with_suffix(f".{outcome}").open("rb") as part:
                    shutil.copyfileobj(part, out)

    def _done(self) -> dict[int, Path]:
        """The tally file of every block; of several attempts at one, always the same."""
        found = sorted(self.folder.glob("*/*.json"), reverse=True)
        return {int(path.stem): path for path in found}


def write_part(
    folder: Path, index: int, completed: Sequence[bytes], failed: Sequence[bytes]
) -> Tally:
    """Writes the lines of a block, its tally last; OSError where the disk does not take them."""
    tally = Tally(index=index, completed=len(completed), failed=len(failed))
    path = folder / f"{index:08d}.json"
    outcomes: Mapping[Outcome, Sequence[bytes]] = {"completed": completed, "failed": failed}
    for outcome, lines in outcomes.items():
        with whole_file(path.with_suffix(f".{outcome}")) as draft:
            draft.write_bytes(b"".join(lines))
    write_whole(path, tally.model_dump_json())
    return tally


def _tally(path: Path) -> Tally:
    return Tally.model_validate_json(path.read_bytes())
