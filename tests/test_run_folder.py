"""The records of stages: there when a stage is done, gone when it begins anew, never half."""

import hashlib
import json

import pytest

from ray_sft.core import DataError
from ray_sft.run_folder import RunFolder, StageReport, served_bundles, trained_bundle

REPORT = StageReport(stage="data", seconds=1.5)


def test_a_stage_is_done_on_the_inputs_that_it_ran_on_until_it_begins_anew(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "one")
    assert folder.finished("data", "these") is None
    folder.finish(REPORT, "these")
    assert folder.finished("data", "these") == REPORT.model_copy(update={"cached": True})
    assert folder.finished("data", "others") is None
    folder.begin("data")
    assert folder.finished("data", "these") is None
    folder.begin("never done")


def test_a_record_that_finds_no_room_is_told_and_counts_for_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / ".data.json.draft").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot write to .* No space left on device"):
        folder.finish(REPORT, "these")
    assert folder.finished("data", "these") is None
    (tmp_path / ".recipe.yaml.draft").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot write to .* No space left on device"):
        folder.write_recipe({"name": "one"})
    assert not (tmp_path / "recipe.yaml").exists()


def write_manifest(folder, **tree):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"name": "one", **tree}))
    return folder


def test_a_run_is_compressed_from_what_it_has_trained(tmp_path):
    assert trained_bundle(tmp_path) is None
    trained = write_manifest(tmp_path / "bundles" / "trained")
    assert trained_bundle(tmp_path) == trained
    assert trained_bundle(trained) == trained
    assert trained_bundle(tmp_path / "recipe.yaml") is None


def test_what_a_search_has_found_is_served_until_the_model_is_trained_again(tmp_path):
    trained = write_manifest(tmp_path / "bundles" / "trained")
    int8 = write_manifest(tmp_path / "bundles" / "int8")
    parent = hashlib.sha256((trained / "manifest.json").read_bytes()).hexdigest()
    found = write_manifest(tmp_path / "bundles" / "compressed", parent=parent)
    assert served_bundles([tmp_path]) == {"one": str(found)}
    (trained / "manifest.json").write_text(json.dumps({"name": "one", "created": "later"}))
    assert served_bundles([tmp_path]) == {"one": str(int8)}
