"""How many replicas there are: as many as the requests under way ask for, within bounds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ray_sft.core import Config

__all__ = ["Autoscaling", "Timing"]


class Timing(Config):
    """How fast the number of replicas follows the requests, in seconds."""

    metrics_interval_s: float
    """Between two counts of the requests under way."""
    look_back_period_s: float
    """The counts of this long decide."""
    upscale_delay_s: float
    """How long more replicas must have been wanted."""
    downscale_delay_s: float
    """How long fewer must have been wanted."""
    aggregation: Literal["max", "mean"]
    """What is made of the counts."""


_TIMINGS = {
    # a peak is answered within five seconds: one to be counted, three to be believed, one to spare
    "interactive": Timing(
        metrics_interval_s=1.0,
        look_back_period_s=5.0,
        upscale_delay_s=3.0,
        downscale_delay_s=60.0,
        aggregation="max",
    ),
    # Ray's own: 40 to 70 seconds up, ten minutes down
    "steady": Timing(
        metrics_interval_s=10.0,
        look_back_period_s=30.0,
        upscale_delay_s=30.0,
        downscale_delay_s=600.0,
        aggregation="mean",
    ),
}


class Autoscaling(Config):
    """Replicas between two bounds."""

    min_replicas: int = Field(default=1, ge=0)
    """0 lets an idle service end its last replica; the next request waits for one to start."""
    max_replicas: int = Field(default=2, ge=1)
    """Each needs ``num_cpus`` processors, and so does one more while the service is updated."""
    target_ongoing_requests: float = Field(default=16.0, gt=0)
    """Requests under way that a replica is to have; with more, another is started."""
    profile: Literal["interactive", "steady"] = "interactive"
    """``interactive`` asks for more replicas within 15 seconds of a peak; ``steady`` within about
    a minute, and keeps them for ten."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas ({self.max_replicas}) is less than min_replicas "
                f"({self.min_replicas})"
            )
        return self

    @property
    def timing(self) -> Timing:
        """What the profile stands for."""
        return _TIMINGS[self.profile]
