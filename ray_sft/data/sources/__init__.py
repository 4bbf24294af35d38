"""Sources: where rows come from and how a file becomes rows, one file per format.

Example:
    >>> from ray_sft.data.sources import Csv
    >>> Csv(path="ratings.csv", header=("user", "item", "rating"), take=100).take
    100
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.data.sources.base import BadRow, RawRow, Slice, Source, TextFile
from ray_sft.data.sources.conll import Conll
from ray_sft.data.sources.csv import Csv
from ray_sft.data.sources.hub import Hub
from ray_sft.data.sources.jsonl import Jsonl
from ray_sft.data.sources.parquet import Parquet
from ray_sft.data.sources.text import Text

__all__ = [
    "AnySource",
    "BadRow",
    "Conll",
    "Csv",
    "Hub",
    "Jsonl",
    "Parquet",
    "RawRow",
    "Slice",
    "Source",
    "Text",
    "TextFile",
]

AnySource: TypeAlias = Annotated[
    Csv | Jsonl | Parquet | Text | Hub | Conll, Field(discriminator="source")
]
"""Every source that a recipe may name."""
