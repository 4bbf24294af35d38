"""What rows must be to be trained on: repaired, masked, of a language and length, and new.

Example:
    >>> from ray_sft.data.quality import Quality, RowCheck
    >>> RowCheck(Quality(min_chars=3)).repaired("sch\u00c3\u00b6n")
    'schön'
"""

from ray_sft.data.quality.config import Quality
from ray_sft.data.quality.duplicates import Duplicates, find_duplicates, unwanted_rows
from ray_sft.data.quality.row_check import RowCheck

__all__ = ["Duplicates", "Quality", "RowCheck", "find_duplicates", "unwanted_rows"]
