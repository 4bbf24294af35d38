"""Words of a team's own, and a prompt's, as single tokens: known to the tokenizer, with rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken

from ray_sft.core import ConfigError
from ray_sft.models.heads import HEADS_FILE
from ray_sft.models.load import ModelSource, load_as_saved, load_processor
from ray_sft.models.prompt import put_prompt, save_as_told, word_rows
from ray_sft.tasks import Processor, prompt_ids

__all__ = ["save_with_tokens"]


def save_with_tokens(
    source: ModelSource,
    tokens: Sequence[str],
    out_dir: Path,
    *,
    prompt_length: int = 0,
    seed: int,
) -> None:
    """Writes a model and its tokenizer, changed to know each of ``tokens`` as one token.

    They are ordinary words of the vocabulary, no control tokens: what a person writes may hold
    them, and they are printed where the model generates them. A new row is drawn from the normal
    distribution that has the mean and the covariance of the rows there are (Hewitt 2021,
    "Initializing New Word Embeddings for Pretrained Language Models"), so that the model takes
    them for likely nowhere.

    Raises:
        ConfigError: the model cannot be loaded, or one of them structures its input.
    """
    processor = load_processor(source.processor)
    if structural := sorted(set(tokens) & set(processor.all_special_tokens)):
        raise ConfigError(
            f"extra_tokens: '{structural[0]}' is a control token of '{source.processor}', which "
            "knows it already. Leave it out."
        )
    processor.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    has_prompt = bool(prompt_ids(processor))
    if prompt_length:
        put_prompt(processor, prompt_length)
    model = load_as_saved(source.model)
    if model.get_input_embeddings().num_embeddings < len(processor):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(processor), mean_resizing=True)
    if prompt_length and not has_prompt:
        _begin_prompt(model, processor, seed=seed)
    model.save_pretrained(out_dir)
    if prompt_ids(processor):
        save_as_told(processor, out_dir)
    else:
        processor.save_pretrained(out_dir)
    heads = Path(source.model) / HEADS_FILE
    if heads.is_file():
        shutil.copyfile(heads, out_dir / HEADS_FILE)


def _begin_prompt(model: Any, processor: Processor, *, seed: int) -> None:
    """Gives the prompt the rows of words, or rows like theirs where it would be written as they."""
    prompt, output = prompt_ids(processor), model.get_output_embeddings()
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        if output is None or output.weight is not table:
            table[prompt] = table[word_rows(processor, len(prompt), seed=seed)]
            return
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(prompt), table.shape[1], generator=generator)
        table[prompt] = table.mean(dim=0) + table.std(dim=0) * noise
