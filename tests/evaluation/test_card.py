import yaml

from ray_sft.bundle import Manifest
from ray_sft.evaluation import model_card
from ray_sft.tasks import SequenceClassification


def card() -> str:
    manifest = Manifest(
        name="intents",
        variant="int8",
        format="onnx",
        tasks={"intent": SequenceClassification(labels=("a", "b"))},
        recipe={"model": "embedded/minilm"},
        libraries={"onnxruntime": "1.32.0"},
    )
    figures = {
        "trained": {"intent/accuracy": 0.93125, "size (MB)": 91.0},
        "int8": {"intent/accuracy": 0.92875, "size (MB)": 23.4, "speed-up": 4.0},
    }
    return model_card(manifest, figures)


def test_the_card_begins_with_front_matter_that_hubs_read():
    _, front, body = card().split("---\n", 2)
    assert yaml.safe_load(front) == {"library_name": "ray-sft", "base_model": "embedded/minilm"}
    assert body.strip().startswith("# intents, int8")


def test_every_figure_stands_in_the_table_and_a_missing_one_is_a_dash():
    lines = [line for line in card().splitlines() if line.startswith("|")]
    assert lines[0] == "| variant | intent/accuracy | size (MB) | speed-up |"
    assert lines[2] == "| trained | 0.9313 | 91 | - |"
    assert lines[3] == "| int8 | 0.9287 | 23.4 | 4 |"


def test_the_card_names_task_and_versions():
    assert "intent (sequence_classification)" in card()
    assert "onnxruntime 1.32.0" in card()
