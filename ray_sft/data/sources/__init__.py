"""Sources: where rows come from and how they are read, one file per kind.

Example:
    >>> from ray_sft.data.sources import Csv
    >>> Csv(path="ratings.csv", header=("user", "item", "rating"), take=100).take
    100
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.data.sources.base import BadRow, LeftOut, RawRow, ReadRow, Slice, Source
from ray_sft.data.sources.conll import Conll
from ray_sft.data.sources.csv import Csv
from ray_sft.data.sources.files import Files, TextFile
from ray_sft.data.sources.hub import Hub
from ray_sft.data.sources.jsonl import Jsonl
from ray_sft.data.sources.lancedb import LanceDb
from ray_sft.data.sources.parquet import Parquet
from ray_sft.data.sources.selection import Portion
from ray_sft.data.sources.several import Several, SingleSource
from ray_sft.data.sources.sql import Sql
from ray_sft.data.sources.text import Text

__all__ = [
    "AnySource",
    "BadRow",
    "Conll",
    "Csv",
    "Files",
    "Hub",
    "Jsonl",
    "LanceDb",
    "LeftOut",
    "Parquet",
    "Portion",
    "RawRow",
    "ReadRow",
    "Several",
    "Slice",
    "Source",
    "Sql",
    "Text",
    "TextFile",
]

AnySource: TypeAlias = Annotated[SingleSource | Several, Field(discriminator="source")]
"""Every source that a recipe may name."""
