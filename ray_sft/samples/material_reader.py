"""Reads the hand-written material beside this file: sections of lines, and phrasings with a split.

The material is plain text, because people edit it: `## name` opens a section, `#` starts a
comment line, and `> ` in front of a phrasing holds it out for the test split.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["MATERIAL_DIR", "Language", "Phrasing", "Split", "read_phrasings", "read_sections"]

Language = Literal["en", "zh"]
Split = Literal["train", "test"]

MATERIAL_DIR: Path = Path(__file__).parent / "material"


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One way to say one thing, with open choices `[a|b]` and slots `{name}`."""

    section: str
    split: Split
    template: str


def read_sections(name: str) -> dict[str, list[str]]:
    """Lines of `material/<name>.txt` by section, in the order of the file."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (MATERIAL_DIR / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            lines = sections.setdefault(line[3:].strip(), [])
        elif line.strip() and not line.startswith("#"):
            lines.append(line.strip())
    return sections


def read_phrasings(name: str) -> list[Phrasing]:
    """All phrasings of `material/<name>.txt`, held-out ones marked as test."""
    return [
        Phrasing(section, "test", line[2:])
        if line.startswith("> ")
        else Phrasing(section, "train", line)
        for section, lines in read_sections(name).items()
        for line in lines
    ]
