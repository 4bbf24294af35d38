"""Running a model before the first request: the first run of a width of input is slow.

ONNX Runtime plans its memory for every new shape, and torch picks kernels. A sample of the bundle
is made longer, doubling each time up to what the model takes, and run alone and in as large a
batch as requests of that length form; so requests of every length find their way prepared.
"""

import logging
from collections.abc import Iterator
from time import monotonic
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.inference import GenerationRequest, Predictor, TextEngine
from ray_sft.tasks import Example

__all__ = ["first_sample", "warm_engine", "warm_predictor"]

logger = logging.getLogger(__name__)

_MOST_SECONDS = 15.0
"""Of one model; after that it is ready, warm or not."""
_LARGEST_BATCH = 32
_MOST_DOUBLINGS = 12
_PROMPT_TOKENS = 256
"""As much of a prompt as the engine reads between two steps."""
_NEW_TOKENS = 4


def warm_predictor(predictor: Predictor, *, max_batch_tokens: int) -> list[tuple[int, int]]:
    """Runs texts of every length; the batches that ran, as numbers of texts and tokens.

    A bundle without samples stays cold.
    """
    ends_at = monotonic() + _MOST_SECONDS
    ran: list[tuple[int, int]] = []
    for example in _growing(predictor):
        fitting = max(1, min(max_batch_tokens // max(1, example.length), _LARGEST_BATCH))
        for num_texts in sorted({1, fitting}):
            if monotonic() > ends_at:
                logger.warning(
                    "'%s' was warmed up for %g s, up to %d tokens; longer texts are slow at first",
                    predictor.bundle.path,
                    _MOST_SECONDS,
                    ran[-1][1],
                )
                return ran
            predictor.run([example] * num_texts)
            ran.append((num_texts, example.length))
    return ran


def warm_engine(engine: TextEngine, *, num_slots: int) -> None:
    """Reads one prompt of the usual piece's length, and writes a few tokens in every slot."""
    longest = max(1, engine.max_length - _NEW_TOKENS - 1)
    token = engine.processor.eos_token_id or 0
    lengths = [min(_PROMPT_TOKENS, longest), *[1] * (num_slots - 1)]
    streams = [
        engine.submit(GenerationRequest(prompt_ids=(token,) * length, max_tokens=_NEW_TOKENS))
        for length in lengths
    ]
    for stream in streams:
        for _ in stream:
            pass


def first_sample(bundle: Bundle, task: str) -> dict[str, Any] | None:
    """The first request with its answer, of a task; None where there is none."""
    return next(iter(bundle.samples(task)), None)


def _growing(predictor: Predictor) -> Iterator[Example]:
    """A sample, and the same twice as long again and again, as far as the model reads."""
    sample = first_sample(predictor.bundle, predictor.name)
    if sample is None:
        return
    last = 0
    for doubling in range(_MOST_DOUBLINGS):
        (encoded,) = predictor.encode([_repeated(sample["request"], 2**doubling)])
        if not isinstance(encoded, Example) or encoded.length <= last:
            return
        last = encoded.length
        yield encoded


def _repeated(request: dict[str, Any], times: int) -> dict[str, Any]:
    """A request whose texts and lists of texts stand ``times`` times one after the other."""
    return {name: _repeat(value, times) for name, value in request.items()}


def _repeat(value: Any, times: int) -> Any:
    if isinstance(value, str):
        return " ".join([value] * times)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value * times
    return value
