"""(IA)3: keys, values and inner activations are scaled by learned vectors, nothing else.

Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning", arXiv:2205.05638, section 3.3: softmax(Q (l_k * K)^T / sqrt(d)) (l_v * V), and
(l_ff * gamma(W_1 x)) W_2. The vectors begin at one.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from ray_sft.core import ConfigError
from ray_sft.models.adapters.base import Adapter, linear_layers
from ray_sft.models.layers import KEYS, VALUES

if TYPE_CHECKING:
    from peft import IA3Model

__all__ = ["Ia3"]

_SECOND = ("output.dense", "down_proj", "fc2", "lin2", "wo")
_NOT_SECOND = "attention.output.dense"
"""Names of layers in the same families as `KEYS` and `VALUES`."""


class Ia3(Adapter):
    """The fewest weights of all adapters: three vectors a layer."""

    marker: ClassVar[str] = "ia3_"

    kind: Literal["ia3"] = "ia3"

    def _tune(self, module: nn.Module, prefix: str) -> "IA3Model":
        """See `Adapter`."""
        from peft import IA3Config, IA3Model  # takes seconds, and few runs need it

        linear = linear_layers(module, prefix)
        found = [
            [name for name in linear if _ends(name, endings) and not _ends(name, (_NOT_SECOND,))]
            for endings in (KEYS, VALUES, _SECOND)
        ]
        if not all(found):
            raise ConfigError(
                f"adapter 'ia3' does not find keys, values and second feed-forward layers in "
                f"{type(module).__name__}: it looks for {', '.join((*KEYS, *VALUES, *_SECOND))}. "
                "Use lora."
            )
        keys, values, second = found
        config = IA3Config(target_modules=[*keys, *values, *second], feedforward_modules=second)
        return IA3Model(module, {"default": config}, "default")


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(name.endswith(f".{ending}") for ending in endings)
