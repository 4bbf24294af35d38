"""What is uploaded, and what is said where the cluster cannot take it; no Ray is started."""

import shlex

import pytest
import yaml

from cluster.submit import entrypoint, resolve_recipe, submit
from ray_sft.core import ConfigError, ServeError

RECIPE = {
    "name": "mine",
    "tasks": {"intent": {"kind": "sequence_classification"}},
    "data": {"intent": {"train": {"path": "rows/train.csv"}, "eval": {"path": "rows/*.csv"}}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text("text,label\nhello,greeting\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_become_absolute_and_overrides_are_applied(folder):
    tree = resolve_recipe("mine.yaml", ["train.epochs=2"])
    assert tree["train"] == {"epochs": 2}
    intent = tree["data"]["intent"]
    assert intent["train"]["path"] == str(folder / "rows" / "train.csv")
    assert intent["eval"]["path"] == str(folder / "rows" / "*.csv")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "path", ["embedded/samples/support_train.csv", "s3://bucket/rows.parquet", "/data/../rows/*"]
)
def test_paths_that_mean_the_same_everywhere_stay(path):
    tree = resolve_recipe("mine.yaml", [f"data.intent.train.path={path}"])
    assert tree["data"]["intent"]["train"]["path"] == path


@pytest.mark.parametrize("form", ["{0}", "{{source: several, sources: {0}}}"])
def test_paths_of_several_sources_become_absolute(folder, form):
    both = "[{source: csv, path: rows/train.csv}, {source: hub, path: owner/set}]"
    tree = resolve_recipe("mine.yaml", [f"data.intent.train={form.format(both)}"])
    train = tree["data"]["intent"]["train"]
    first, second = train["sources"] if isinstance(train, dict) else train
    assert first["path"] == str(folder / "rows" / "train.csv")
    assert second["path"] == "owner/set"


@pytest.mark.usefixtures("folder")
def test_a_hub_id_is_no_path():
    overrides = ["data.intent.train.path=owner/set", "data.intent.train.source=hub"]
    tree = resolve_recipe("mine.yaml", overrides)
    assert tree["data"]["intent"]["train"]["path"] == "owner/set"


def test_data_of_earlier_stages_is_resolved_too(folder):
    recipe = RECIPE | {"before": [{"name": "first", "data": RECIPE["data"]}]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    (stage,) = resolve_recipe("mine.yaml", [])["before"]
    assert stage["data"]["intent"]["train"]["path"] == str(folder / "rows" / "train.csv")


def test_a_model_folder_becomes_absolute_and_a_hub_id_stays(folder):
    (folder / "model").mkdir()
    assert resolve_recipe("mine.yaml", ["model=model"])["model"] == str(folder / "model")
    assert resolve_recipe("mine.yaml", ["model=owner/name"])["model"] == "owner/name"


def test_models_of_augmentations_and_of_the_gate_become_absolute(folder):
    (folder / "model").mkdir()
    operation = {"kind": "contextual_replacement", "model": "model"}
    back = {"kind": "back_translation", "there": "model", "back": "owner/name"}
    said = {"kind": "paraphrase", "model": "chat", "cache": "kept.db"}
    gate = {"classifier": "model", "embedder": "embedded/minilm"}
    quality = {"names": "model"}
    recipe = RECIPE | {"augment": [operation, back, said], "gate": gate, "quality": quality}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    tree = resolve_recipe("mine.yaml", [])
    assert tree["augment"] == [
        operation | {"model": str(folder / "model")},
        back | {"there": str(folder / "model")},
        said | {"cache": str(folder / "kept.db")},
    ]
    assert tree["quality"] == {"names": str(folder / "model")}
    assert tree["gate"] == {"classifier": str(folder / "model"), "embedder": "embedded/minilm"}


@pytest.mark.usefixtures("folder")
def test_missing_data_is_told_before_anything_is_sent():
    with pytest.raises(ConfigError, match=r"data\.intent\.train\.path: 'gone\.csv'"):
        submit("mine.yaml", ["data.intent.train.path=gone.csv"], address="http://127.0.0.1:1")


def test_packaged_recipes_are_found_by_name():
    assert resolve_recipe("customer_intents", [])["name"] == "customer_intents"


def test_the_entrypoint_survives_spaces(tmp_path):
    runs_dir = tmp_path / "my runs"
    command = shlex.split(entrypoint(runs_dir, executable=None))
    assert command == ["ray-sft", "run", "recipe.yaml", "--runs-dir", str(runs_dir)]
    local = shlex.split(entrypoint(runs_dir, executable="/venv/bin/python"))
    assert local[:3] == ["/venv/bin/python", "-m", "ray_sft.cli"]


@pytest.mark.usefixtures("folder")
def test_no_cluster_at_all(tmp_path):
    with pytest.raises(ServeError, match="ray-sft cluster up"):
        submit("mine.yaml", state_dir=tmp_path / "none")


@pytest.mark.usefixtures("folder")
def test_an_address_that_is_no_url(tmp_path):
    with pytest.raises(ServeError, match="no URL"):
        submit("mine.yaml", address="127.0.0.1:8265", state_dir=tmp_path / "none")


@pytest.mark.usefixtures("folder")
def test_a_cluster_that_is_away(tmp_path, free_ports):
    with pytest.raises(ServeError, match="cannot be reached"):
        submit("mine.yaml", address=f"http://127.0.0.1:{free_ports[0]}", state_dir=tmp_path)
