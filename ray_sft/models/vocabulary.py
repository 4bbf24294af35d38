"""A smaller vocabulary: the tokenizer's file without most of its tokens, the model without rows.

What is left is chosen so that a text whose tokens are all left is tokenized as before:

- WordPiece takes the longest token that fits, which is still there and has no longer rival.
- Unigram takes the most probable sequence, of fewer candidates than before but with the winner.
- BPE merges the best pair at hand; the merges that lead to a token are left with it, so the pair
  that won is still the best one. They are found by merging the token's own characters: a merge
  across its borders would have made another token.

Nothing here knows where the tokens that are left come from.
"""

import json
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ray_sft.core import ConfigError
from ray_sft.models.prompt import read_as_told

__all__ = ["keep_rows", "keep_tokens", "named_tokens"]

_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_OTHERS = ("vocab.txt", "vocab.json", "merges.txt", "*.model", "special_tokens_map.json")
"""What tokenizers are read from where there is no `_FILE`, and would contradict it."""


def keep_tokens(folder: Path, used: Collection[int], *, characters: bool) -> list[int]:
    """Rewrites the tokenizer in ``folder`` to have no more than it needs; the ids that are left.

    The new id of a token is its place in the list, whose order is that of the former ids.

    Args:
        folder: a saved tokenizer.
        used: ids that are left, beside control tokens, added tokens and what leads to them.
        characters: whether every token of one character is left, so that any word can be spelled.

    Raises:
        ConfigError: the tokenizer is of a kind whose file is not known here.
    """
    path = folder / _FILE
    if not path.is_file():
        raise ConfigError(f"'{folder}' has no {_FILE}: only fast tokenizers can lose tokens.")
    tree = json.loads(path.read_text(encoding="utf-8"))
    model = tree["model"]
    ids = _ids(model)
    added = {token["content"]: int(token["id"]) for token in tree.get("added_tokens", ())}
    used = frozenset(used)
    wanted = {token for token, number in ids.items() if number in used}
    wanted |= {token for token in (model.get("unk_token"), *added) if token in ids}
    if "unk_id" in model and model["unk_id"] is not None:
        wanted.add(model["vocab"][model["unk_id"]][0])
    prefix = model.get("continuing_subword_prefix") or ""
    if characters:
        wanted |= {token for token in ids if len(token.removeprefix(prefix)) == 1}
        wanted |= {token for token in ids if _is_byte(token)}
    if model["type"] == "BPE":
        ranks = {_pair(merge): rank for rank, merge in enumerate(model["merges"])}
        wanted |= {part for token in wanted for part in _parts(token, ranks) if part in ids}
    kept = sorted({ids[token] for token in wanted} | set(added.values()))
    places = {number: place for place, number in enumerate(kept)}
    _renumber(tree, wanted, places)
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    for pattern in _OTHERS:
        for file in folder.glob(pattern):
            file.unlink()
    _renumber_config(folder / _CONFIG, places)
    return kept


def _ids(model: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of a tokenizer's model with their ids."""
    kind = model.get("type")
    if kind == "Unigram":
        return {token: number for number, (token, _) in enumerate(model["vocab"])}
    if kind in ("WordPiece", "BPE", "WordLevel"):
        return {token: int(number) for token, number in model["vocab"].items()}
    raise ConfigError(f"a tokenizer of kind '{kind}' cannot lose tokens. Leave the pass out.")


def _is_byte(token: str) -> bool:
    """Whether a token stands for a byte, by which what has no other token is spelled."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _parts(token: str, ranks: Mapping[tuple[str, str], int]) -> set[str]:
    """Everything that merging the characters of a token makes on the way."""
    pieces, made = list(token), set(token)
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        place = pairs.index(best)
        pieces[place : place + 2] = ["".join(best)]
        made.add(pieces[place])
    return made


def _renumber(tree: dict[str, Any], wanted: set[str], places: Mapping[int, int]) -> None:
    """Takes all but ``wanted`` out of a tokenizer's file, and writes its new ids everywhere."""
    model = tree["model"]
    if model["type"] == "Unigram":
        former = model["vocab"]
        model["vocab"] = [former[number] for number in sorted(places) if number < len(former)]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    else:
        model["vocab"] = {
            token: places[n] for token, n in model["vocab"].items() if token in wanted
        }
    if model["type"] == "BPE":
        model["merges"] = [
            merge
            for merge in model["merges"]
            if {*_pair(merge), "".join(_pair(merge))} <= model["vocab"].keys()
        ]
    for token in tree.get("added_tokens", ()):
        token["id"] = places[token["id"]]
    if tree.get("padding"):
        tree["padding"]["pad_id"] = places[tree["padding"]["pad_id"]]
    if tree.get("post_processor"):
        _renumber_steps(tree["post_processor"], places)


def _renumber_steps(step: dict[str, Any], places: Mapping[int, int]) -> None:
    """The ids in a post-processor and in those that it is a sequence of."""
    for one in step.get("processors", ()):
        _renumber_steps(one, places)
    for token in (step.get("special_tokens") or {}).values():
        token["ids"] = [places[number] for number in token["ids"]]
    for name in ("cls", "sep"):
        if isinstance(step.get(name), list):
            step[name][1] = places[step[name][1]]


def _renumber_config(path: Path, places: Mapping[int, int]) -> None:
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    added = config.get("added_tokens_decoder", {})
    config["added_tokens_decoder"] = {str(places[int(n)]): token for n, token in added.items()}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    read_as_told(path.parent)


def named_tokens(model: Any) -> set[int]:
    """The ids of tokens that the configurations of ``model`` name."""
    return {
        number
        for config in _configs(model)
        for value in _named(config).values()
        for number in (value if isinstance(value, list) else [value])
    }


def keep_rows(model: Any, kept: list[int]) -> None:
    """Takes all rows but those of ``kept`` out of the embeddings of ``model``, in their order.

    Ids in its configurations follow. Output embeddings and their biases lose the same rows.
    """
    body = _body(model)
    table = body.get_input_embeddings().weight
    order = [*kept, *sorted(set(range(len(table))) - set(kept))]
    output = body.get_output_embeddings()
    tensors = [table, getattr(output, "weight", None), getattr(output, "bias", None)]
    with torch.no_grad():
        for tensor in {id(one): one for one in tensors if one is not None}.values():
            tensor.copy_(tensor[order].clone())
    body.resize_token_embeddings(len(kept), mean_resizing=False)
    places = {number: place for place, number in enumerate(kept)}
    for config in _configs(model):
        for name, value in _named(config).items():
            several = [places[n] for n in value if n in places] if isinstance(value, list) else []
            setattr(config, name, several or places.get(value if isinstance(value, int) else -1))


def _body(model: Any) -> Any:
    """What holds the embeddings: of a model of several heads, the part that they share."""
    return getattr(model, "backbone", model)


def _configs(model: Any) -> list[Any]:
    body = _body(model)
    found = (body.config, getattr(body, "generation_config", None))
    return [config for config in found if config is not None]


def _named(config: Any) -> dict[str, int | list[int]]:
    """The ids of tokens in a configuration, by field."""
    return {
        name: value
        for name, value in config.to_dict().items()
        if name.endswith("_token_id") and value is not None
    }
