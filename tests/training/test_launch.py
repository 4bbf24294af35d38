import subprocess
import sys
from pathlib import Path

import pytest

from ray_sft.core import ConfigError
from ray_sft.models import Lora
from ray_sft.training import Train, train_model
from ray_sft.training.launch import choose_resources


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus"),
    [
        ([2], 2, 1.0),
        ([2], 1, 2.0),
        ([2, 2], 1, 2.0),  # not four: no machine has them
        ([2, 2], 2, 2.0),
        ([2, 2], 3, 1.0),
        ([8, 2], 4, 2.0),
        ([1], 2, 0.5),
        ([3], 2, 1.0),
        ([0, 4], 3, 1.0),
    ],
)
def test_each_worker_gets_what_fits_on_one_machine(nodes, workers, cpus):
    resources = choose_resources(Train(workers=workers), [{"CPU": n} for n in nodes])
    assert resources.cpus == cpus
    assert resources.threads == max(1, int(cpus))
    assert not resources.use_gpu


def test_gpus_are_taken_where_there_is_one_for_each_worker():
    nodes = [{"CPU": 16.0, "GPU": 2.0}]
    assert choose_resources(Train(workers=2), nodes).use_gpu
    assert not choose_resources(Train(workers=3), nodes).use_gpu
    assert not choose_resources(Train(workers=2, device="cpu"), nodes).use_gpu


def test_what_the_cluster_does_not_have_is_refused_with_numbers():
    with pytest.raises(ConfigError, match=r"train\.workers 2, but the cluster has 1 GPUs"):
        choose_resources(Train(workers=2, device="cuda"), [{"CPU": 4.0, "GPU": 1.0}])
    offloaded = Train(workers=2, offload="optimizer")
    assert choose_resources(offloaded, [{"CPU": 4.0, "GPU": 2.0}]).use_gpu
    with pytest.raises(ConfigError, match=r"runs on CPUs here.*offload: none"):
        choose_resources(offloaded, [{"CPU": 4.0, "GPU": 1.0}])
    with pytest.raises(ConfigError, match="no machine of the cluster has CPUs"):
        choose_resources(Train(), [{"CPU": 0.0}])


def test_what_a_killed_compilation_left_does_not_keep_the_next_one_waiting():
    code = (
        "from torch.utils import cpp_extension\n"
        "from pathlib import Path\n"
        "from ray_sft.training.engine import compile_operators\n"
        "folder = cpp_extension._get_build_directory('deepspeed_shm_comm', verbose=False)\n"
        "left = Path(folder) / 'lock'\n"
        "left.touch()\n"
        "compile_operators()\n"
        "assert not left.exists()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a compilation that was stopped has left" in done.stderr


@pytest.mark.gpu
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(280)
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize(
    "adapter", [None, Lora(rank=8, alpha=64), Lora(rank=8, alpha=64, four_bit=True)]
)
def test_a_run_on_a_gpu_learns_and_leaves_weights(tiny_decoder, tmp_path, stage, adapter):
    job = tiny_decoder.job(
        zero_stage=stage,
        workers=1,
        device="cuda",
        precision="auto",
        packing=True,
        epochs=20,
        learning_rate=3e-3 if adapter is None else 2e-2,
    )
    losses = []
    weights = train_model(
        job.tasks,
        job.train,
        model=job.model,
        processor=job.processor,
        data_dirs={name: Path(folder) for name, folder in job.data_dirs.items()},
        out_dir=tmp_path,
        name="run",
        on_record=lambda record: losses.append(record.get("loss")),
        adapter=adapter,
    )
    steps = [loss for loss in losses if loss is not None]
    assert steps[-1] < 0.7 * steps[0]
    assert (weights / "model.safetensors").is_file()
