"""A run with a prompt and a word of its own: frozen, trained, exported, and answered from."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor
from ray_sft.pipeline import Pipeline
from ray_sft.recipe import load_recipe
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher
from ray_sft.tasks import prompt_ids, prompt_tokens
from tests.e2e.tiny_run import tiny_recipe, write_tiny_run

OWN = """
extra_tokens: ["<order>"]
adapter: {kind: prompt_tuning, num_tokens: 5}
compress:
  passes: [{kind: prune_vocabulary, characters: false, keep_first: 0}, {kind: export_onnx}]
  budget: {accuracy: -1.0}
"""
TABLE = "bert.embeddings.word_embeddings.weight"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(280)
@pytest.mark.usefixtures("local_ray")
def test_a_run_trains_a_prompt_and_a_word_and_nothing_else_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe(
        "epochs: 3, tokens_per_step: 128, workers: 2, zero_stage: 3, learning_rate: 0.05"
    )
    write_tiny_run(tmp_path, recipe + OWN)
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("my <order> is late,parcel\n")
    folder = RunFolder(tmp_path / "runs" / "tiny")
    with ProgressWatcher(Console(file=io.StringIO())) as watcher:
        pipeline = Pipeline(check_recipe(load_recipe("recipe.yaml")), folder, watcher)
        trained = pipeline.train()
        pipeline.compress(trained)
    before = load_file(folder.path / "extended" / "model.safetensors")
    after = load_file(trained.model_dir / "model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert {name.split(".")[0] for name in changed - {TABLE}} == {"classifier"}
    processor = Predictor(trained).processor
    own = {*prompt_ids(processor), processor.convert_tokens_to_ids("<order>")}
    assert len(own) == 6
    moved = (before[TABLE] != after[TABLE]).any(dim=1).nonzero().flatten().tolist()
    assert set(moved) == own
    small = Predictor(Bundle.open(folder.bundles_dir / "prune_vocabulary")).processor
    assert len(small) < len(processor)
    assert small.convert_ids_to_tokens(prompt_ids(small)) == list(prompt_tokens(5))
    requests = [sample["request"] for sample in trained.samples()]
    exported = Predictor(Bundle.open(folder.bundles_dir / "onnx")).predict(requests)
    for one, two in zip(Predictor(trained).predict(requests), exported, strict=True):
        assert one.label == two.label
