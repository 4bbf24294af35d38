"""Replies in a given language: a JSON schema, an expression, a choice or a grammar.

llguidance (https://github.com/guidance-ai/llguidance) follows the language and says before each
token which ones may come. Languages come from clients, so what they may cost is bounded: the
library's fuel, and what takes long takes it in the thread that asks, not in the engine's.
"""

import json
from collections.abc import Collection
from functools import lru_cache
from threading import Lock

import llguidance.hf
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from ray_sft.core import DataError, ServeError
from ray_sft.inference.generation.request import Constraint
from ray_sft.tasks import Array, Processor

__all__ = ["ConstraintCompiler", "Matcher"]

# A tenth and a quarter of the defaults, with which "(a{1000}){1000}" takes 0.9 s to be refused.
_LIMITS = LLParserLimits(initial_lexer_fuel=100_000, step_lexer_fuel=50_000)
_NUM_COMPILED = 64


class Matcher:
    """Where a reply stands in its language."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        """At the beginning."""
        self._matcher = matcher
        self._vocab_size = vocab_size

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow but the end."""
        return bool(self._matcher.is_stopped())

    def mask(self, logits: Array) -> Array:
        """The logits (vocabulary,) with -inf for every token that may not come.

        Raises:
            ServeError: the language has become too complex to follow.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(np.bool_)
        return np.where(allowed, logits, np.float32(-np.inf))

    def advance(self, token: int) -> None:
        """Goes on past ``token``.

        Raises:
            ServeError: the language has become too complex to follow.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().splitlines()[0]
            raise ServeError(f"the constraint could not be followed any further: {reason}")


class ConstraintCompiler:
    """Makes matchers for the tokens of one model; usable from any thread."""

    def __init__(
        self, processor: Processor, *, vocab_size: int, eos_token_ids: Collection[int]
    ) -> None:
        """Prepares nothing until a first constraint comes."""
        self._processor = processor
        self._vocab_size = vocab_size
        self._eos_token_ids = sorted(eos_token_ids)
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled = lru_cache(_NUM_COMPILED)(self._compile)

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of ``constraint``.

        Raises:
            DataError: the constraint is malformed, not supported or too complex.
        """
        return Matcher(self._compiled(constraint).deep_copy(), self._vocab_size)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a part of a character may be one."""
        return bytes(self._get_tokenizer().decode_bytes([token]))

    def _get_tokenizer(self) -> LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = llguidance.hf.from_tokenizer(
                    self._processor, n_vocab=self._vocab_size, eos_token=self._eos_token_ids
                )
            return self._tokenizer

    def _compile(self, constraint: Constraint) -> LLMatcher:
        grammar = _grammar(constraint)
        matcher = LLMatcher(self._get_tokenizer(), grammar, log_level=0, limits=_LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()  # builds the first states, where the cost of most lies
        if matcher.is_error():
            reason = " ".join(matcher.get_error().split())
            raise DataError(f"the {_NAMES[constraint.kind]} cannot be used: {reason[:300]}")
        return matcher


_NAMES = {
    "json_schema": "JSON schema",
    "regex": "regular expression",
    "choice": "list of choices",
    "lark": "grammar",
}


def _grammar(constraint: Constraint) -> str:
    if constraint.kind == "json_schema":
        try:
            # with free whitespace a small model could go on with spaces for ever
            return LLMatcher.grammar_from_json_schema(
                constraint.text, defaults={"whitespace_flexible": False}
            )
        except ValueError as error:
            raise DataError(f"the JSON schema cannot be used: {error}") from None
    if constraint.kind == "regex":
        return LLMatcher.grammar_from_regex(constraint.text)
    if constraint.kind == "choice":
        return LLMatcher.grammar_from_lark(_one_of(json.loads(constraint.text)))
    return LLMatcher.grammar_from_lark(constraint.text)


def _one_of(choices: list[str]) -> str:
    # a JSON string is a Lark string too
    return "start: " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
