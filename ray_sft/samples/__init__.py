"""Small rows made for this project, so that the demo runs offline and its figures mean something.

Everything here was written by hand and put together by :mod:`ray_sft.samples.generate`; the shop,
its customers and the companies in the news are invented.

Example:
    >>> from ray_sft.samples import SAMPLES_DIR
    >>> (SAMPLES_DIR / "support_train.csv").is_file()
    True
"""

from pathlib import Path

__all__ = ["SAMPLES_DIR"]

SAMPLES_DIR: Path = Path(__file__).parent
