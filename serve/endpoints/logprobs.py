"""Log-probabilities of tokens, in the two shapes that OpenAI's routes give them."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from itertools import accumulate

from ray_sft.inference import GenerationChunk, TextEngine
from serve.endpoints.generation_replies import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopLogprob,
)

__all__ = ["TokenTexts"]

_LEAST = -9999.0
"""What OpenAI gives for a probability of zero, since JSON knows no infinity."""


class TokenTexts:
    """Shows the tokens of one model."""

    def __init__(self, engine: TextEngine) -> None:
        """Asks ``engine`` what a token stands for."""
        self._bytes = engine.constraints.token_bytes

    def chat(self, chunks: Sequence[GenerationChunk]) -> ChatLogprobs:
        """As `/v1/chat/completions` has them; a token may be a part of a character."""
        content: list[TokenLogprob] = [
            {
                **self._token(score.token, score.log_probability),
                "top_logprobs": [self._token(token, value) for token, value in score.top],
            }
            for chunk in chunks
            for score in chunk.scores
        ]
        return {"content": content, "refusal": None}

    def completion(self, chunks: Sequence[GenerationChunk], start: int) -> CompletionLogprobs:
        """As `/v1/completions` has them; ``start`` characters stand before these chunks."""
        scores = [score for chunk in chunks for score in chunk.scores]
        return {
            "tokens": [self._name(score.token) for score in scores],
            "token_logprobs": [max(_LEAST, score.log_probability) for score in scores],
            "top_logprobs": [
                {self._name(token): max(_LEAST, value) for token, value in score.top}
                for score in scores
            ],
            "text_offset": self._offsets([score.token for score in scores], start),
        }

    def _offsets(self, tokens: Sequence[int], start: int) -> list[int]:
        """Characters that are whole before each token."""
        decoder = getincrementaldecoder("utf-8")("replace")
        lengths = [len(decoder.decode(self._bytes(token))) for token in tokens]
        return list(accumulate(lengths[:-1], initial=start)) if tokens else []

    def _token(self, token: int, value: float) -> TopLogprob:
        return {
            "token": self._text(token),
            "logprob": max(_LEAST, value),
            "bytes": list(self._bytes(token)),
        }

    def _text(self, token: int) -> str:
        return self._bytes(token).decode(errors="replace")

    def _name(self, token: int) -> str:
        """As OpenAI names them here, so that parts of characters can be told apart."""
        spelled = self._bytes(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
