import json
import os
import pickle
import shutil
import threading
from dataclasses import replace

import pytest

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.bundle.manifest import FileEntry, hash_file
from ray_sft.bundle.reader import former_path
from ray_sft.core import BundleError
from ray_sft.tasks import CausalLanguageModel, SequenceClassification

TASK = SequenceClassification(labels=("a", "b"))
SAMPLES = [{"request": {"text": "转账"}, "response": {"label": "a"}}]


def manifest(**changes) -> Manifest:
    base = {"name": "intents", "variant": "trained", "format": "torch", "tasks": {"intent": TASK}}
    return Manifest(**(base | changes))


def fill(out: BundleWriter, content: bytes = b"weights") -> None:
    (out.model_dir / "model.safetensors").write_bytes(content)
    (out.model_dir / "deep").mkdir()
    (out.model_dir / "deep" / "manifest.json").write_text("{}")
    (out.processor_dir / "tokenizer.json").write_text("{}")
    out.write_samples(SAMPLES)
    out.write_card("# card\n")


def write(path, content: bytes = b"weights", **changes) -> Bundle:
    with BundleWriter(path) as out:
        fill(out, content)
        return out.finish(manifest(**changes))


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return write(tmp_path / "trained")


def test_a_bundle_comes_back_as_it_was_written(tmp_path):
    tasks = {"intent": TASK, "reply": CausalLanguageModel(max_length=64)}
    written = write(
        tmp_path / "deep" / "trained",
        tasks=tasks,
        recipe={"train": {"epochs": 3}},
        metrics={"intent/accuracy": 0.5},
        properties={"note": "中文"},
        parent="abc",
    )
    read = Bundle.open(tmp_path / "deep" / "trained")
    assert read == written
    assert read.manifest.tasks == tasks
    assert list(read.samples()) == SAMPLES
    assert read.num_bytes == len(b"weights") + len("{}")
    assert read.manifest.libraries["torch"]
    assert read.manifest.created.endswith("+00:00")
    assert len(read.fingerprint) == 64


def test_every_file_is_hashed_but_the_manifest(bundle):
    files = {
        str(file.relative_to(bundle.path)): hash_file(file)
        for file in bundle.path.rglob("*")
        if file.is_file()
    }
    files.pop("manifest.json")
    assert {name: entry.sha256 for name, entry in bundle.manifest.files.items()} == files
    assert "model/deep/manifest.json" in files


def test_equal_weights_have_one_fingerprint_whenever_they_were_written(bundle, tmp_path):
    later = write(tmp_path / "later", metrics={"intent/accuracy": 0.5})
    assert later.fingerprint != bundle.fingerprint
    assert later.weights_fingerprint == bundle.weights_fingerprint
    entry = FileEntry(sha256="0" * 64, num_bytes=1)
    files = later.manifest.files | {"model/model.safetensors": entry}
    other = replace(later, manifest=later.manifest.model_copy(update={"files": files}))
    assert other.weights_fingerprint != bundle.weights_fingerprint


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    """Whatever is there when it is written is whole; before that, nothing is a bundle."""
    seen = []
    real = os.replace

    def spy(source, target):
        seen.append(sorted(p.name for p in source.iterdir()))
        assert max(source.rglob("*"), key=lambda p: p.stat().st_mtime_ns).name == "manifest.json"
        real(source, target)

    monkeypatch.setattr(os, "replace", spy)
    write(tmp_path / "trained")
    assert seen == [["README.md", "manifest.json", "model", "processor", "samples.jsonl"]]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_torn_write_leaves_nothing(tmp_path, error):
    def torn():
        with BundleWriter(tmp_path / "trained") as out:
            fill(out)
            raise error

    with pytest.raises(error):
        torn()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_write_leaves_the_former_bundle(bundle):
    def torn():
        with BundleWriter(bundle.path) as out:
            fill(out, b"other")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        torn()
    assert Bundle.open(bundle.path) == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == ["trained"]


@pytest.mark.parametrize("leave_out", ["model", "samples", "lines"])
def test_a_bundle_without_model_or_samples_is_not_written(tmp_path, leave_out):
    with BundleWriter(tmp_path / "trained") as out:
        fill(out)
        if leave_out == "model":
            shutil.rmtree(out.model_dir)
            out.model_dir.mkdir()
        elif leave_out == "lines":
            out.write_samples([])
        else:
            (out.model_dir.parent / "samples.jsonl").unlink()
        with pytest.raises(BundleError, match="no model or no samples"):
            out.finish(manifest())
    assert list(tmp_path.iterdir()) == []


def test_a_writer_refuses_what_a_reader_would_and_keeps_the_former(bundle):
    def with_pickle():
        with BundleWriter(bundle.path) as out:
            fill(out)
            (out.model_dir / "pytorch_model.bin").write_bytes(pickle.dumps([1]))
            out.finish(manifest())

    with pytest.raises(BundleError, match=r"pytorch_model\.bin' may not be in a bundle"):
        with_pickle()
    assert Bundle.open(bundle.path) == bundle


def test_a_bundle_is_replaced_as_a_whole(bundle):
    second = write(bundle.path, b"second")
    assert (Bundle.open(bundle.path).model_dir / "model.safetensors").read_bytes() == b"second"
    assert Bundle.open(bundle.path) == second
    assert [p.name for p in bundle.path.parent.iterdir()] == ["trained"]


def test_a_writer_killed_between_its_renames_loses_nothing(bundle):
    bundle.path.rename(former_path(bundle.path))
    with BundleWriter(bundle.path):
        pass
    assert Bundle.open(bundle.path) == bundle


def test_a_reader_meets_one_whole_bundle_or_the_other_while_it_is_replaced(tmp_path):
    path = tmp_path / "trained"
    contents = {b"a" * 200_000, b"b" * 200_000}
    for content in contents:
        write(path, content)
    stop, errors, found = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                found.add(Bundle.open(path).manifest.files["model/model.safetensors"].sha256)
            except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
                errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(100):
        for content in contents:
            write(path, content)
    stop.set()
    for reader in readers:
        reader.join(timeout=30)
    assert errors == []
    assert len(found) == 2


def change(path):
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


DAMAGE = {
    "changed": (lambda b: change(b.path / "model" / "model.safetensors"), "is damaged: 'model/mod"),
    "cut": (lambda b: (b.path / "samples.jsonl").write_text(""), "is damaged: 'samples"),
    "missing": (lambda b: (b.path / "README.md").unlink(), "lacks README.md"),
    "extra": (lambda b: (b.path / "model" / "x.txt").write_text("x"), "holds 'model/x.txt'"),
    "extra manifest": (lambda b: (b.path / "model" / "manifest.json").write_text("{}"), "holds"),
    "no manifest": (lambda b: (b.path / "manifest.json").unlink(), "is no bundle"),
    "empty manifest": (lambda b: (b.path / "manifest.json").write_text(""), "a damaged manifest"),
    "other json": (lambda b: (b.path / "manifest.json").write_text("[]"), "a damaged manifest"),
    "not utf-8": (lambda b: (b.path / "manifest.json").write_bytes(b"\xff"), "a damaged manifest"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_is_refused_and_the_file_named(bundle, name):
    damage, message = DAMAGE[name]
    damage(bundle)
    with pytest.raises(BundleError, match=f"trained'.*{message}"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("target", ["file", "folder", "manifest"])
def test_links_are_refused(bundle, tmp_path, target):
    names = {"file": "model/model.safetensors", "folder": "model/link", "manifest": "manifest.json"}
    path = bundle.path / names[target]
    if target == "folder":
        path.symlink_to(tmp_path, target_is_directory=True)
    else:
        aside = tmp_path / "aside"
        path.rename(aside)
        path.symlink_to(aside)
    with pytest.raises(BundleError):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.PKL", "code.py", "op.so"])
def test_files_that_run_code_are_refused_even_when_listed(bundle, name):
    (bundle.path / "model" / name).write_bytes(b"x")
    tree = json.loads((bundle.path / "manifest.json").read_text())
    digest = hash_file(bundle.path / "model" / name)
    tree["files"][f"model/{name}"] = {"sha256": digest, "num_bytes": 1}
    (bundle.path / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=f"'model/{name}' may not be in a bundle"):
        Bundle.open(bundle.path)


def test_a_listed_path_outside_the_bundle_is_not_read(bundle, tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    tree = json.loads((bundle.path / "manifest.json").read_text())
    tree["files"]["../secret"] = {"sha256": hash_file(tmp_path / "secret"), "num_bytes": 1}
    (bundle.path / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=r"lacks \.\./secret"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema_version", 2, "has schema version 2; this version of ray-sft reads 1"),
        ("schema_version", None, "has schema version None"),
        ("tasks", {"x": {"kind": "telepathy"}}, "(?s)damaged.*telepathy"),
        ("format", "pickle", "(?s)damaged.*format"),
        ("surprise", 1, "(?s)damaged.*surprise"),
    ],
)
def test_a_manifest_of_another_make_is_refused(bundle, key, value, message):
    tree = json.loads((bundle.path / "manifest.json").read_text())
    tree[key] = value
    (bundle.path / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle.path)


def test_a_bundle_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(BundleError, match="none' does not exist"):
        Bundle.open(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="file' does not exist"):
        Bundle.open(tmp_path / "file")


def test_copied_processor_and_draft(bundle, tmp_path):
    with BundleWriter(tmp_path / "onnx") as out:
        out.copy_processor(bundle)
        draft = out.draft(manifest())
        assert (draft.processor_dir / "tokenizer.json").read_text() == "{}"
        assert draft.task == TASK
