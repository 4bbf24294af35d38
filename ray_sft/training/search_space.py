"""What a recipe may set about searching for better settings."""

import json
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator
from ray import tune

from ray_sft.core import Config, Tree

__all__ = ["AnyDomain", "Domain", "Tune"]

_SEARCHED = ("train.", "objectives", "adapter")
"""What may differ between trials: all of them learn from the same rows."""


class Domain(Config, ABC):
    """The values that one setting may take."""

    @abstractmethod
    def ends(self) -> list[Tree]:
        """Values that are valid only if all are."""

    @abstractmethod
    def sampled(self) -> Any:
        """The same for Ray Tune; values are drawn as JSON where they are no numbers."""


class _Range(Domain):
    """Numbers between two ends, which belong to it."""

    low: float
    """The least value."""
    high: float
    """The largest value."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def ends(self) -> list[Tree]:
        """See `Domain.ends`."""
        return [self.low, self.high]


class Uniform(_Range):
    """A number of a range, all of them alike."""

    kind: Literal["uniform"] = "uniform"

    def sampled(self) -> Any:
        """See `Domain.sampled`."""
        return tune.uniform(self.low, self.high)


class LogUniform(_Range):
    """A positive number of a range, all orders of magnitude alike: for rates and weights."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float = Field(gt=0)
    """The least value."""

    def sampled(self) -> Any:
        """See `Domain.sampled`."""
        return tune.loguniform(self.low, self.high)


class Integers(_Range):
    """A whole number of a range, both ends included."""

    kind: Literal["integers"] = "integers"
    low: int
    """The least value."""
    high: int
    """The largest value."""

    def sampled(self) -> Any:
        """See `Domain.sampled`."""
        return tune.randint(self.low, self.high + 1)


class Choice(Domain):
    """One of some values, which may be anything that the setting takes, such as objectives."""

    kind: Literal["choice"] = "choice"
    values: tuple[Any, ...] = Field(min_length=2)
    """The values, as a recipe would spell them."""

    def ends(self) -> list[Tree]:
        """See `Domain.ends`."""
        return list(self.values)

    def sampled(self) -> Any:
        """See `Domain.sampled`."""
        return tune.choice([json.dumps(value) for value in self.values])


AnyDomain: TypeAlias = Annotated[
    Uniform | LogUniform | Integers | Choice, Field(discriminator="kind")
]
"""Every domain that a recipe may name, by its ``kind``."""


class Tune(Config):
    """How ``ray-sft tune`` searches; a run itself does not look at it."""

    space: dict[str, AnyDomain] = Field(min_length=1)
    """By setting, such as ``train.learning_rate``, the values to try."""
    trials: int = Field(default=16, ge=1)
    """How many trainings to begin."""
    concurrent: int = Field(default=1, ge=1)
    """How many run at once; each needs ``train.workers`` processes."""
    grace: int = Field(default=1, ge=1)
    """Evaluations that each training has before it may be given up for a better one; how often
    there is one says ``train.evaluate_every``."""
    reduction: int = Field(default=3, ge=2)
    """At every rung about one of so many trainings goes on; a rung has so many times the
    evaluations of the one before."""
    seed: int = Field(default=0, ge=0)
    """Seeds what is tried."""

    @field_validator("space")
    @classmethod
    def _shares_rows(cls, space: dict[str, Domain]) -> dict[str, Domain]:
        for name in space:
            if not name.startswith(_SEARCHED):
                raise ValueError(
                    f"'{name}' cannot be searched: all trials learn from the same rows. Name a "
                    "setting of train, objectives or adapter"
                )
        return space
