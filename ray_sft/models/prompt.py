"""A tokenizer that puts a prompt before every text, and the rows that its tokens begin with."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors

from ray_sft.core import ConfigError
from ray_sft.tasks import Processor, prompt_ids, prompt_tokens

__all__ = ["put_prompt", "read_as_told", "save_as_told", "word_rows"]

_PROMPT = "prompt"
"""What stands in a post-processor for all tokens of the prompt."""
_TEMPLATE, _OLDER = "TemplateProcessing", ("BertProcessing", "RobertaProcessing")
_CONFIG = "tokenizer_config.json"
_FREQUENT = 5000
"""How many of a vocabulary's first words are taken for frequent ones, as in the paper."""


def put_prompt(processor: Processor, num_tokens: int) -> None:
    """Makes ``processor`` begin every text with a prompt, in place.

    It stands behind the token that begins an input, where there is one, and before all that a chat
    template writes. To be saved by `save_as_told`.

    Raises:
        ConfigError: it has a prompt of another length, or is no tokenizer that can be told to.
    """
    found = len(prompt_ids(processor))
    if found == num_tokens:
        return
    if found:
        raise ConfigError(
            f"adapter.num_tokens is {num_tokens}, but the model has a prompt of {found} tokens "
            f"already. Set num_tokens: {found} to train that one further."
        )
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"adapter 'prompt_tuning': {type(processor).__name__} is no fast tokenizer, which "
            "alone can begin texts with a prompt. Use lora."
        )
    tokens = prompt_tokens(num_tokens)
    processor.add_special_tokens(
        {"extra_special_tokens": list(tokens)}, replace_extra_special_tokens=False
    )
    ids = processor.convert_tokens_to_ids(list(tokens))
    prompt = {"id": _PROMPT, "ids": ids, "tokens": list(tokens)}
    backend.post_processor = _with_prompt(backend.post_processor, prompt)
    if processor.chat_template:
        processor.chat_template = "".join(tokens) + str(processor.chat_template)


def save_as_told(processor: Processor, folder: Path) -> None:
    """Saves a tokenizer so that it is `read_as_told`."""
    processor.save_pretrained(folder)
    read_as_told(folder)


def read_as_told(folder: Path) -> None:
    """Makes a saved tokenizer be read as its file says, not as its family's usually are."""
    path = folder / _CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def word_rows(processor: Processor, num_rows: int, *, seed: int) -> list[int]:
    """The ids of frequent words of the vocabulary, no one twice before all were drawn."""
    added = set(processor.added_tokens_decoder)
    found = sorted((number, token) for token, number in processor.get_vocab().items())
    pieces = [(number, token) for number, token in found if number not in added]
    # single characters, and what vocabularies keep for later, have rows that mean nothing yet
    words = [n for n, token in pieces if len(_bare(token)) > 1 and _bare(token).isalpha()]
    words = (words or [number for number, _ in pieces])[:_FREQUENT]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(words), generator=generator).tolist()
    return [words[drawn[number % len(drawn)]] for number in range(num_rows)]


def _bare(token: str) -> str:
    """A piece without what says that it begins or continues a word."""
    return token.removeprefix("##").lstrip("\u2581\u0120")


def _with_prompt(post_processor: Any, prompt: dict[str, Any]) -> processors.PostProcessor:
    """A post-processor that puts ``prompt`` before the first text, and does what it did."""
    former = [] if post_processor is None else [_state(post_processor)]
    if former and former[0]["type"] == "Sequence":
        former = former[0]["processors"]
    steps = [step for one in former for step in _as_template(one)]
    if not any(step["type"] == _TEMPLATE for step in steps):
        plain = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
        steps.append(_state(plain))
    for step in steps:
        if step["type"] == _TEMPLATE:
            for pieces in (step["single"], step["pair"]):
                place = next(n for n, piece in enumerate(pieces) if "Sequence" in piece)
                pieces.insert(place, {"SpecialToken": {"id": _PROMPT, "type_id": 0}})
            step["special_tokens"][_PROMPT] = prompt
    found = processors.Sequence([])
    found.__setstate__(json.dumps({"type": "Sequence", "processors": steps}).encode())
    return found


def _as_template(step: dict[str, Any]) -> list[dict[str, Any]]:
    """The older steps of BERT and RoBERTa as templates, and all others as they are."""
    if step["type"] not in _OLDER:
        return [step]
    edges = [(str(token), int(number)) for token, number in (step["cls"], step["sep"])]
    (start, _), (end, _) = edges
    single = [f"{start}:0", "$A:0", f"{end}:0"]
    if step["type"] == "BertProcessing":
        pair = [*single, "$B:1", f"{end}:1"]
        return [_state(processors.TemplateProcessing(single, pair, edges))]
    pair = [*single, f"{end}:0", "$B:0", f"{end}:0"]
    options = {name: step[name] for name in ("trim_offsets", "add_prefix_space")}
    return [
        _state(processors.ByteLevel(**options)),
        _state(processors.TemplateProcessing(single, pair, edges)),
    ]


def _state(post_processor: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(post_processor.__getstate__())
    return state
