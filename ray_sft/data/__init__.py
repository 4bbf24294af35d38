"""Rows in, encoded samples out: sources, checks, encoding on Ray Data, and the order of samples."""

from ray_sft.data.augment import AnyAugmentation, Gate
from ray_sft.data.augmented import AugmentedSummary, write_augmented
from ray_sft.data.changes import Change
from ray_sft.data.encode import encode
from ray_sft.data.mixture import Mixture
from ray_sft.data.plan import Rows, StepPlan, num_positions
from ray_sft.data.prepare import DataSummary, prepare, resolve_task, write_rejected
from ray_sft.data.quality import Quality
from ray_sft.data.rows import UsableTexts, column_values, iterate_rows
from ray_sft.data.schema import Splits, check_columns
from ray_sft.data.sources import AnySource, Conll, Csv, Hub, Jsonl, Parquet, Source, Text
from ray_sft.data.store import SampleStore
from ray_sft.data.summary import SplitSummary
from ray_sft.data.windows import Stream, WindowFeed, Windows

__all__ = [
    "AnyAugmentation",
    "AnySource",
    "AugmentedSummary",
    "Change",
    "Conll",
    "Csv",
    "DataSummary",
    "Gate",
    "Hub",
    "Jsonl",
    "Mixture",
    "Parquet",
    "Quality",
    "Rows",
    "SampleStore",
    "Source",
    "SplitSummary",
    "Splits",
    "StepPlan",
    "Stream",
    "Text",
    "UsableTexts",
    "WindowFeed",
    "Windows",
    "check_columns",
    "column_values",
    "encode",
    "iterate_rows",
    "num_positions",
    "prepare",
    "resolve_task",
    "write_augmented",
    "write_rejected",
]
