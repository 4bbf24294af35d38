"""MiniLM sentence vectors as its authors compute them: the mean of the last layer's states."""

import asyncio
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from ray_sft.models.embedded import minilm_dir

_MAX_TOKENS = 256
_BATCH_TOKENS = 8192


class MiniLM:
    """The embedding as the service calls it, in bfloat16."""

    def __init__(self) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(minilm_dir())
        self._model = AutoModel.from_pretrained(minilm_dir(), dtype=torch.float32).eval()

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await asyncio.to_thread(self.embed, texts)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=_MAX_TOKENS)["input_ids"]
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        vectors = np.empty((len(texts), self._model.config.hidden_size), dtype=np.float32)
        while order:
            size = max(1, _BATCH_TOKENS // len(encoded[order[-1]]))
            batch, order = order[-size:], order[:-size]
            vectors[batch] = self._run([encoded[index] for index in batch])
        return vectors

    @torch.inference_mode()
    def _run(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        tokens = [torch.tensor(ids) for ids in token_ids]
        ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        lengths = torch.tensor([len(one) for one in tokens])
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        means = (states.float() * mask[..., None]).sum(1) / lengths[:, None]
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return vectors
