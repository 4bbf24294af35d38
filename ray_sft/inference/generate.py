"""One reply to one conversation, for the command line; services keep an engine."""

from collections.abc import Sequence

from ray_sft.bundle import Bundle
from ray_sft.inference.generation import GenerationRequest, open_engine
from ray_sft.tasks.causal_language_model import Message, encode_prompt

__all__ = ["generate"]


def generate(
    bundle: Bundle,
    messages: Sequence[Message],
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    num_threads: int = 1,
) -> str:
    """The assistant's reply to ``messages`` by a decoder bundle in ONNX format.

    Raises:
        BundleError: the bundle holds no decoder graph.
        DataError: the conversation is longer than the model takes.
    """
    engine = open_engine(bundle, num_slots=1, num_threads=num_threads)
    try:
        request = GenerationRequest(
            tuple(encode_prompt(messages, engine.processor)),
            max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        return "".join(chunk.text for chunk in engine.submit(request))
    finally:
        engine.close()
