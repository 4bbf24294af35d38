"""A stage that fails half-way is run again, even on inputs on which it was done before."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ray_sft.core import DataError
from ray_sft.data import SampleStore
from ray_sft.pipeline import Pipeline
from ray_sft.recipe import load_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher
from tests.factories import tiny_encoder, tiny_wordpiece

RECIPE = """
name: half
model: model
tasks: {language: {kind: masked_language_model}}
data:
  language:
    train: {source: jsonl, path: train.jsonl}
    eval: {source: jsonl, path: eval.jsonl}
"""


def lines(count: int) -> bytes:
    texts = [f"where is parcel {number * 7919 % 10_007}, please" for number in range(count)]
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def prepare(folder: Path) -> tuple[bool, int]:
    """Runs the data stage; whether it was done already, and how many rows training has."""
    with ProgressWatcher(Console(file=io.StringIO())) as watcher:
        pipeline = Pipeline(load_recipe("recipe.yaml", []), RunFolder(folder), watcher)
        pipeline.prepare()
    store = SampleStore(folder / "data" / "trained" / "language" / "train")
    return pipeline.reports[-1].cached, len(store)


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("local_ray")
def test_rows_of_a_run_that_failed_are_not_taken_for_those_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    tiny_encoder(2).save_pretrained("model")
    tiny_wordpiece().save_pretrained("model")
    Path("recipe.yaml").write_text(RECIPE)
    train, evaluation = Path("train.jsonl"), Path("eval.jsonl")

    train.write_bytes(lines(30))
    evaluation.write_bytes(lines(5))
    folder = tmp_path / "runs" / "half"
    assert prepare(folder) == (False, 30)
    assert prepare(folder) == (True, 30)

    train.write_bytes(lines(40))
    evaluation.write_bytes(b'{"text": " "}\n')
    with pytest.raises(DataError, match="none of the 1 rows can be used"):
        prepare(folder)

    train.write_bytes(lines(30))
    evaluation.write_bytes(lines(5))
    assert prepare(folder) == (False, 30)
