"""A tiny encoder, decoder and translator with rows, as folders, and jobs that train them."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
)

from ray_sft.models import HeadedEncoder, train_tokenizer
from ray_sft.tasks import (
    AnyTask,
    CausalLanguageModel,
    SequenceClassification,
    TokenClassification,
    Translation,
)
from ray_sft.training import Train
from ray_sft.training.job import Job
from tests.ray_session import local_ray
from tests.training.worlds import write_shards

__all__ = ["local_ray"]

WORDS = [
    "my",
    "card",
    "is",
    "lost",
    "please",
    "send",
    "a",
    "new",
    "one",
    "to",
    "the",
    "old",
    "address",
    "before",
    "friday",
    "thanks",
]

TWO_TASKS = {
    "when": SequenceClassification(labels=("early", "late"), max_length=32),
    "what": TokenClassification(labels=("thing",), max_length=32),
}


@dataclass(frozen=True)
class TinyRun:
    """Everything of a job but its settings."""

    task: AnyTask
    model: Path
    data: Path
    rows: list[dict]

    def job(self, **settings) -> Job:
        defaults = {"precision": "fp32", "epochs": 2, "tokens_per_step": 60, "device": "cpu"}
        train = Train(**(defaults | settings))
        return Job(
            {"it": self.task},
            train,
            str(self.model),
            str(self.model),
            {"it": str(self.data)},
            1,
            None,
        )


def sentence(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


@pytest.fixture(scope="session")
def tiny_processor():
    return train_tokenizer([" ".join(WORDS)] * 20, vocab_size=320)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory, tiny_processor) -> TinyRun:
    """A Llama of two layers and conversations of very different lengths."""
    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_processor),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tiny_processor.save_pretrained(folder / "model")
    rng = random.Random(1)
    rows = [
        {
            "messages": [
                {"role": "user", "content": sentence(rng, 9)},
                {"role": "assistant", "content": sentence(rng, 12)},
            ]
        }
        for _ in range(23)
    ]
    task = CausalLanguageModel(max_length=64)
    write_shards(task, folder / "model", rows, folder / "data" / "train")
    write_shards(task, folder / "model", rows[:7], folder / "data" / "eval")
    return TinyRun(task, folder / "model", folder / "data", rows)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory, tiny_processor) -> TinyRun:
    """A BERT of two layers without dropout, and labelled sentences."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    task = SequenceClassification(labels=("early", "late"), max_length=32)
    config = BertConfig(
        vocab_size=len(tiny_processor),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **task.model_options(),
    )
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    tiny_processor.save_pretrained(folder / "model")
    rng = random.Random(2)
    texts = [sentence(rng, 14) for _ in range(23)]
    rows = [{"text": text, "label": "late" if "friday" in text else "early"} for text in texts]
    write_shards(task, folder / "model", rows, folder / "data" / "train")
    write_shards(task, folder / "model", rows[:7], folder / "data" / "eval")
    return TinyRun(task, folder / "model", folder / "data", rows)


@pytest.fixture(scope="session")
def tiny_translator(tmp_path_factory, tiny_processor) -> TinyRun:
    """A Marian of one layer on either side without dropout, and sentences told backwards."""
    folder = tmp_path_factory.mktemp("translator")
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tiny_processor),
        decoder_vocab_size=len(tiny_processor),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=tiny_processor.pad_token_id,
        bos_token_id=tiny_processor.bos_token_id,
        eos_token_id=tiny_processor.eos_token_id,
        decoder_start_token_id=tiny_processor.bos_token_id,
        forced_eos_token_id=None,
    )
    MarianMTModel(config).save_pretrained(folder / "model")
    tiny_processor.save_pretrained(folder / "model")
    rng = random.Random(3)
    texts = [sentence(rng, 9) for _ in range(23)]
    rows = [{"text": text, "translation": " ".join(text.split()[::-1])} for text in texts]
    task = Translation(max_length=32)
    write_shards(task, folder / "model", rows, folder / "data" / "train")
    write_shards(task, folder / "model", rows[:7], folder / "data" / "eval")
    return TinyRun(task, folder / "model", folder / "data", rows)


@pytest.fixture(scope="session")
def headed(tmp_path_factory, tiny_processor) -> Path:
    """A folder with a two-headed BERT, and shards of both tasks."""
    folder = tmp_path_factory.mktemp("headed")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_processor),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    HeadedEncoder(BertModel(config), TWO_TASKS).save_pretrained(folder / "model")
    tiny_processor.save_pretrained(folder / "model")
    rng = random.Random(3)
    texts = [sentence(rng, 14) for _ in range(23)]
    when = [{"text": text, "label": "late" if "friday" in text else "early"} for text in texts]
    words = [sentence(rng, 9).split() for _ in range(11)]
    what = [
        {"tokens": some, "tags": ["B-thing" if word == "card" else "O" for word in some]}
        for some in words
    ]
    for name, rows in (("when", when), ("what", what)):
        write_shards(TWO_TASKS[name], folder / "model", rows, folder / name / "train")
        write_shards(TWO_TASKS[name], folder / "model", rows[:7], folder / name / "eval")
    return folder
