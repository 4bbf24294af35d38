"""Configuration base, error tree and logging: what every other room stands on."""

from ray_sft.core.config import Config, Tree, apply_overrides, load_tree, validate
from ray_sft.core.errors import (
    BundleError,
    CompressionError,
    ConfigError,
    DataError,
    RaySFTError,
    ServeError,
    TrainingError,
    reason_of,
)

__all__ = [
    "BundleError",
    "CompressionError",
    "Config",
    "ConfigError",
    "DataError",
    "RaySFTError",
    "ServeError",
    "TrainingError",
    "Tree",
    "apply_overrides",
    "load_tree",
    "reason_of",
    "validate",
]
