import json
import shutil

import pytest
import torch

from ray_sft.bundle import BundleWriter, Manifest
from ray_sft.core import BundleError, ConfigError
from ray_sft.inference.translator import Translator
from ray_sft.models import (
    TINY_PEGASUS,
    load_model,
    load_processor,
    locate,
    save_from_scratch,
)
from ray_sft.tasks import CausalLanguageModel, SequenceClassification, Translation
from tests.factories import (
    LABELS,
    TEXTS,
    tiny_decoder,
    tiny_encoder,
    tiny_processor,
    tiny_translator,
)

CLASSIFY = SequenceClassification(labels=LABELS, max_length=64)
COMPLETE = CausalLanguageModel(max_length=64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, model in (("encoder", tiny_encoder(len(LABELS))), ("decoder", tiny_decoder())):
        model.save_pretrained(root / name)
        tiny_processor().save_pretrained(root / name)
    return root


@pytest.fixture
def folder(folders, tmp_path):
    """A classifier's folder to do harm to."""
    return shutil.copytree(folders / "encoder", tmp_path / "model")


@pytest.fixture
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def write_bundle(source, path, format_):
    with BundleWriter(path) as out:
        shutil.copytree(source, out.model_dir, dirs_exist_ok=True)
        tiny_processor().save_pretrained(out.processor_dir)
        out.write_samples([{"request": {}, "response": {}}])
        tasks = {"intent": CLASSIFY}
        return out.finish(Manifest(name="x", variant="y", format=format_, tasks=tasks))


def test_a_folder_gives_the_weights_that_were_saved_in_fp32(folders):
    source = locate(str(folders / "encoder"))
    processor = load_processor(source.processor)
    model = load_model(source.model, CLASSIFY, processor=processor)
    saved = tiny_encoder(len(LABELS)).state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, saved[name], rtol=0, atol=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.pad_token_id == processor.pad_token_id


def test_a_decoder_gets_the_head_that_the_task_asks_for(folders):
    processor = load_processor(folders / "decoder")
    model = load_model(str(folders / "decoder"), COMPLETE, processor=processor)
    assert model.lm_head.out_features == len(processor)
    classifier = load_model(str(folders / "decoder"), CLASSIFY, processor=processor)
    assert classifier.score.out_features == len(LABELS)


def test_a_trained_bundle_is_a_start(folders, tmp_path):
    write_bundle(folders / "encoder", tmp_path / "trained", "torch")
    source = locate(str(tmp_path / "trained"))
    assert source.model == str(tmp_path / "trained" / "model")
    assert load_model(source.model, CLASSIFY, processor=load_processor(source.processor))


def test_a_damaged_bundle_is_refused(folders, tmp_path):
    write_bundle(folders / "encoder", tmp_path / "trained", "torch")
    (tmp_path / "trained" / "model" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"damaged: 'model/config\.json'"):
        locate(str(tmp_path / "trained"))


def test_an_onnx_bundle_cannot_be_trained(folders, tmp_path):
    write_bundle(folders / "encoder", tmp_path / "int8", "onnx")
    with pytest.raises(BundleError, match="ONNX graph, which cannot be trained"):
        locate(str(tmp_path / "int8"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/no/such/folder", "'/no/such/folder' does not exist"),
        ("./none", "'./none' does not exist"),
        ("~/surely/not/there", "does not exist"),
        ("none", "'none' does not exist.*hub id"),
        ("a/b/c", "'a/b/c' does not exist"),
        ("", "'' does not exist|is empty"),
        ("embedded/mnilm", "'embedded/mnilm' does not exist: 'embedded/minilm'"),
        ("embedded/tiny-llama", "no weights of its own"),
    ],
)
def test_a_reference_that_stands_for_nothing_says_so(reference, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        locate(reference)


def test_a_hub_id_is_passed_on():
    assert locate("owner/model").model == "owner/model"


@pytest.mark.usefixtures("_offline")
def test_a_hub_model_that_cannot_be_had_says_so():
    with pytest.raises(ConfigError, match="cannot load the tokenizer 'nobody/nothing'"):
        load_processor("nobody/nothing")
    with pytest.raises(ConfigError, match=r"cannot load the model 'nobody/nothing'.*hub id that"):
        load_model("nobody/nothing", CLASSIFY, processor=tiny_processor())


HARM = {
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "only a pickle": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
    "torn weights": lambda f: (f / "model.safetensors").write_bytes(b"torn" * 50),
    "no configuration": lambda f: (f / "config.json").unlink(),
    "broken configuration": lambda f: (f / "config.json").write_text("{"),
    "unknown architecture": lambda f: (f / "config.json").write_text('{"model_type": "magic"}'),
}


@pytest.mark.parametrize("name", HARM)
def test_a_folder_that_cannot_be_loaded_says_why(folder, name):
    HARM[name](folder)
    with pytest.raises(ConfigError, match=f"cannot load the model '{folder}': .*embedded/minilm"):
        load_model(str(folder), CLASSIFY, processor=tiny_processor())


@pytest.mark.parametrize("text", ["{", "{}"])
def test_a_damaged_tokenizer_says_so(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match=f"cannot load the tokenizer '{folder}'"):
        load_processor(folder)


def test_another_number_of_labels_is_refused(folder):
    task = SequenceClassification(labels=("a", "b"))
    with pytest.raises(ConfigError, match=r"shapes that .* ask for \(2 labels\)"):
        load_model(str(folder), task, processor=tiny_processor())


def test_an_encoder_is_no_language_model(folder):
    with pytest.raises(ConfigError, match=r"is an encoder \(bert\): it cannot generate text"):
        load_model(str(folder), COMPLETE, processor=tiny_processor())


def test_an_encoder_translates_nothing(folder):
    with pytest.raises(ConfigError, match=r"\(bert\) is no encoder-decoder.*tiny-pegasus"):
        load_model(str(folder), Translation(), processor=tiny_processor())


def test_positions_that_are_computed_are_not_trained(tmp_path):
    tiny_translator().save_pretrained(tmp_path)
    model = load_model(str(tmp_path), Translation(), processor=tiny_processor())
    fixed = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert fixed == {f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}


def test_a_longer_text_than_the_model_takes_is_refused(folders):
    task = CausalLanguageModel(max_length=513)
    with pytest.raises(ConfigError, match=r"max_length is 513, but .* takes 512 positions"):
        load_model(str(folders / "decoder"), task, processor=tiny_processor())


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(folders):
    processor = load_processor(folders / "decoder")
    processor.add_tokens(["one more"])
    with pytest.raises(ConfigError, match="do not belong together"):
        load_model(str(folders / "decoder"), COMPLETE, processor=processor)


def test_padding_is_on_the_right_and_with_eos_where_no_pad_token_is(folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"padding_side": "left"}
    settings.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    processor = load_processor(folder)
    assert processor.padding_side == "right"
    assert processor.pad_token_id == processor.eos_token_id
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="neither a pad nor an eos token"):
        load_processor(folder)


def test_a_translator_from_scratch_loads_as_it_was_made(tmp_path):
    save_from_scratch(TINY_PEGASUS, TEXTS * 9, tmp_path, vocab_size=400, max_length=300, seed=0)
    processor = load_processor(tmp_path)
    model = load_model(str(tmp_path), Translation(max_length=300), processor=processor)
    assert model.config.max_position_embeddings == 300
    assert model.config.decoder_start_token_id == processor.bos_token_id
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert 4e6 < trained - 256 * len(processor) < 6e6
    assert Translator.load(str(tmp_path)).translate(TEXTS[:2])
