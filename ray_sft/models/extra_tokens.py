"""Words of a team's own as single tokens: the tokenizer learns them, the model gets rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AddedToken

from ray_sft.core import ConfigError
from ray_sft.models.heads import HEADS_FILE
from ray_sft.models.load import ModelSource, load_as_saved, load_processor

__all__ = ["save_with_tokens"]


def save_with_tokens(
    source: ModelSource, tokens: Sequence[str], out_dir: Path, *, seed: int
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
    model = load_as_saved(source.model)
    if model.get_input_embeddings().num_embeddings < len(processor):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(processor), mean_resizing=True)
    model.save_pretrained(out_dir)
    processor.save_pretrained(out_dir)
    heads = Path(source.model) / HEADS_FILE
    if heads.is_file():
        shutil.copyfile(heads, out_dir / HEADS_FILE)
