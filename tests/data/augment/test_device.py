"""Models of augmentations run on the GPU that Ray gives their task, and on the CPU otherwise."""

import json

import pytest
import ray
import torch

from ray_sft.data import Jsonl, SampleStore, encode
from ray_sft.data.augment import BackTranslation
from ray_sft.data.augment.device import device_of_task
from ray_sft.data.index import write_index
from ray_sft.inference.translator import Translator
from ray_sft.tasks import SequenceClassification
from tests.factories import TEXTS, tiny_processor, tiny_translation_model


def test_without_a_gpu_of_its_own_a_task_uses_the_cpu():
    assert device_of_task() == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.ray
def test_a_task_with_a_gpu_translates_there(tmp_path):
    here = str(tiny_translation_model())
    found = [
        Translator.load(here, device=torch.device(device)).translate(TEXTS)
        for device in ("cpu", "cuda")
    ]
    assert found[0] == found[1]
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    tiny_processor().save_pretrained(tmp_path / "processor")
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False)
    try:
        assert ray.get(ray.remote(num_gpus=0.5)(device_of_task).remote()).type == "cuda"
        assert ray.get(ray.remote(device_of_task).remote()).type == "cpu"
        encode(
            Jsonl(path=str(path)),
            SequenceClassification(labels=("a", "b"), max_length=64),
            processor_dir=tmp_path / "processor",
            out_dir=tmp_path / "shards",
            num_tasks=2,
            augment=[BackTranslation(there=here, back=here, copies=3, temperature=1.0)],
        )
    finally:
        ray.shutdown()
    write_index(tmp_path / "shards")
    assert (SampleStore(tmp_path / "shards").copy_numbers > 0).any()
