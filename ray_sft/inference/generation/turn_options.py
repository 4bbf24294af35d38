"""What onnxruntime-genai's Engine is told of a request, and what it cannot be told.

The Engine draws tokens itself and keeps the logits to itself. What would need them is refused
here, never left out in silence.

So are constraints, though the Engine knows them as guidance: that of version 0.18 reads tokens
back as text, and where a token is a part of a character, as in most scripts and every emoji, or a
language is too complex, it fails, and with it every request that the Engine has.
"""

from typing import Any

from ray_sft.core import DataError
from ray_sft.inference.generation.request import GenerationRequest

__all__ = ["check_possible", "set_options", "settings_of"]

_SEEDS = 2**64
_LOGITS = "keeps the logits to itself"
_GUIDANCE = "loses all its requests where one in a given form goes wrong"


def check_possible(request: GenerationRequest, *, takes_seeds: bool) -> None:
    """Returns where the Engine can answer ``request`` as it is meant.

    An Engine without paged attention draws with the one seed of its configuration, 0.

    Raises:
        DataError: it cannot, and why.
    """
    if request.top_scores is not None:
        raise _impossible("log-probabilities", _LOGITS, "Leave out logprobs")
    if request.presence_penalty or request.frequency_penalty:
        instead = "Leave them 0, use repetition_penalty"
        raise _impossible("presence_penalty and frequency_penalty", _LOGITS, instead)
    if request.constraint is not None:
        what = f"a reply in a given form ({request.constraint.kind})"
        raise _impossible(what, _GUIDANCE, "Ask for the form in words and check the reply")
    if request.temperature and request.seed and not takes_seeds:
        raise DataError(
            f"seed is {request.seed}; an engine without paged attention draws with seed 0 only. "
            "Leave out the seed, set temperature to 0, or serve a bundle that was exported with "
            "device: cuda."
        )


def settings_of(
    request: GenerationRequest, *, max_tokens: int, vocab_size: int, takes_seeds: bool
) -> dict[str, tuple[Any, ...]]:
    """The arguments of the ``set_`` methods of ``TurnOptions``, by what follows ``set_``.

    Whatever the bundle's configuration says, all is said here: it holds the defaults of a model's
    author, which a request that does not ask for them must not get.
    """
    draws = request.temperature > 0.0 and request.top_k != 1  # from one token nothing is drawn
    settings: dict[str, tuple[Any, ...]] = {
        "max_generated_tokens": (max_tokens,),
        "min_generated_tokens": (0,),
        "no_repeat_ngram_size": (0,),
        "repetition_penalty": (request.repetition_penalty,),
        "do_sample": (draws,),
    }
    if draws:
        settings["temperature"] = (request.temperature,)
        settings["top_k"] = (min(request.top_k, vocab_size),)
        settings["top_p"] = (request.top_p,)
        if takes_seeds:
            settings["seed"] = (request.seed % _SEEDS,)
    return settings


def set_options(options: Any, settings: dict[str, tuple[Any, ...]]) -> None:
    """Calls the ``set_`` methods of a ``TurnOptions``."""
    for name, values in settings.items():
        getattr(options, f"set_{name}")(*values)


def _impossible(what: str, why: str, instead: str) -> DataError:
    return DataError(
        f"{what} cannot be had from this model: onnxruntime-genai's Engine, which runs it, {why}. "
        f"{instead}, or serve a bundle that was exported with device: cpu."
    )
