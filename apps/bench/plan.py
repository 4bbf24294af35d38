"""What is asked of a service, how often, and for how long."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from apps.bench.routes import ROUTES

__all__ = ["Arrivals", "Plan", "read_texts", "seconds_in"]

Arrivals = Literal["poisson", "constant"]

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A load; without a ``rate`` each connection asks again as soon as it is answered."""

    url: str
    texts: tuple[str, ...]
    route: str = "classify"
    """Name of one of `ROUTES`."""
    model: str | None = None
    texts_per_request: int = 1
    max_tokens: int = 64
    """Of each reply that a model writes."""
    connections: int = 32
    rate: float | None = None
    """Requests a second, whether or not earlier ones are answered."""
    arrivals: Arrivals = "poisson"
    """When requests of a ``rate`` come: at random, or at equal intervals."""
    duration_s: float = 30.0
    warmup_s: float = 1.0
    """Before the duration; figures leave out what was asked then."""
    timeout_s: float = 60.0
    """Of one request."""

    def __post_init__(self) -> None:
        """Raises ValueError where the parts make no load."""
        if self.route not in ROUTES:
            raise ValueError(f"route '{self.route}' is none of {', '.join(ROUTES)}.")
        if not self.texts:
            raise ValueError("there is no text to send. Give a file with one text a line.")
        for name in ("connections", "texts_per_request", "max_tokens", "duration_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"the rate is {self.rate} requests a second; it must be above 0.")
        if self.arrivals not in ("poisson", "constant"):
            raise ValueError(f"arrivals '{self.arrivals}' is neither 'poisson' nor 'constant'.")
        if self.texts_per_request > 1 and not ROUTES[self.route].takes_several:
            raise ValueError(f"route '{self.route}' takes one text a request.")

    @property
    def mode(self) -> Literal["closed", "open"]:
        """``closed``: each connection waits for its answer; ``open``: the clock says when."""
        return "closed" if self.rate is None else "open"


def seconds_in(duration: str) -> float:
    """``30s``, ``2m``, ``500ms`` or a number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|)", duration.strip())
    if found is None:
        raise ValueError(f"duration '{duration}' is none. Write it as 30s, 2m or 500ms.")
    return float(found[1]) * _UNITS[found[2]]


def read_texts(path: Path | None) -> tuple[str, ...]:
    """The lines of a file that hold text; those of this package without a file.

    Raises:
        ValueError: the file cannot be read.
    """
    if path is None:
        text = files("apps").joinpath("assets/bench_texts.txt").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"texts '{path}' cannot be read as UTF-8: {error}.") from None
    return tuple(line.strip() for line in text.split("\n") if line.strip())
