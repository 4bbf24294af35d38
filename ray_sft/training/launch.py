"""Starting a run on Ray Train, following it, and telling what went wrong."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from ray_sft.core import ConfigError, TrainingError
from ray_sft.data import Stream, WindowFeed, Windows
from ray_sft.models import AnyAdapter
from ray_sft.objectives import AnyObjective, Distillation
from ray_sft.tasks import AnyTask
from ray_sft.training.config import Train
from ray_sft.training.continual import Former
from ray_sft.training.failures import explain
from ray_sft.training.job import WEIGHTS, Job
from ray_sft.training.progress import ProgressReader, RecordLog
from ray_sft.training.trackers import AnyTracker, Followers, Tensorboard, TrackedRun

__all__ = ["Resources", "choose_resources", "train_model"]

logger = logging.getLogger(__name__)

_PASSED_ON = ("HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Resources:
    """What each worker gets."""

    use_gpu: bool
    cpus: float
    threads: int


def choose_resources(train: Train, nodes: Sequence[Mapping[str, float]]) -> Resources:
    """A GPU each where there are enough and the recipe does not forbid it, else a share of CPUs.

    Args:
        train: says how many workers, and on what.
        nodes: ``CPU`` and ``GPU`` of every machine of the cluster.

    Raises:
        ConfigError: ``device: cuda`` or ``offload`` without a GPU for each worker, or a cluster
            without CPUs.
    """
    num_gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    if train.device == "cuda" and num_gpus < train.workers:
        raise ConfigError(
            f"train.device is cuda and train.workers {train.workers}, but the cluster has "
            f"{num_gpus} GPUs. Lower train.workers or set train.device: cpu."
        )
    use_gpu = train.device == "cuda" or (train.device == "auto" and num_gpus >= train.workers)
    if train.offload != "none" and not use_gpu:
        raise ConfigError(
            "train.offload takes from a GPU's memory what the machine's has room for, and training "
            "runs on CPUs here. Set train.offload: none."
        )
    cpus = _cpu_share([node.get("CPU", 0.0) for node in nodes], train.workers)
    if cpus <= 0:
        raise ConfigError(f"no machine of the cluster has CPUs for {train.workers} workers.")
    return Resources(use_gpu, min(cpus, 1.0) if use_gpu else cpus, max(1, int(cpus)))


def _cpu_share(nodes: Sequence[float], num_workers: int) -> float:
    """The most CPUs that each worker can have at once, each worker on a single machine."""
    shares = {cpus / count for cpus in nodes for count in range(1, num_workers + 1)}
    whole = {float(int(share)) if share >= 1 else share for share in shares if share > 0}
    for share in sorted(whole, reverse=True):
        if sum(int(cpus / share) for cpus in nodes) >= num_workers:
            return share
    return 0.0


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def train_model(
    tasks: Mapping[str, AnyTask],
    train: Train,
    *,
    model: str,
    processor: str,
    data_dirs: Mapping[str, Path],
    out_dir: Path,
    name: str,
    on_record: Callable[[Mapping[str, Any]], None],
    objectives: Sequence[AnyObjective] = (),
    adapter: AnyAdapter | None = None,
    teachers: Sequence[str] = (),
    distillation: Distillation | None = None,
    former: Former | None = None,
    stream: Stream | None = None,
    share: float = 1.0,
    trackers: Sequence[AnyTracker] = (),
    title: str = "",
) -> Path:
    """Trains and returns the folder with the weights; resumes where ``name`` was interrupted.

    Args:
        tasks: by name, resolved; their labels are known. Several share one model.
        train: settings.
        model: a folder or hub id with weights.
        processor: a folder or hub id.
        data_dirs: by task, the folder with the encoded shards in ``train`` and ``eval``.
        out_dir: where checkpoints and records go.
        name: of the run in ``out_dir``; a run of the same name goes on from its last checkpoint.
        on_record: gets every record, in a thread of its own.
        objectives: wrap the loss, the first one innermost.
        adapter: trained instead of the model's own weights, and merged into them at the end.
        teachers: folders or hub ids with weights that ``distillation`` follows.
        distillation: wraps the task's own loss, inside of ``objectives``.
        former: what ``model`` has learned before and is not to forget.
        stream: the training rows after those in ``data_dirs``, of the only task.
        share: of each machine's CPUs and GPUs that the run may have.
        trackers: are told every figure, beside the files in ``out_dir``.
        title: what they call the run; its name where empty.

    Raises:
        TrainingError: the run did not finish.
        ConfigError: a tracker cannot follow it.
    """
    from ray_sft.training.worker import run_worker  # DeepSpeed: seconds, and only where it trains

    nodes = [{name: share * amount for name, amount in node.items()} for node in _nodes()]
    resources = choose_resources(train, nodes)
    log = RecordLog.remote()  # type: ignore[attr-defined]
    feed = WindowFeed.remote(stream) if stream else None  # type: ignore[attr-defined]
    job = Job(
        dict(tasks),
        train,
        model,
        processor,
        {task: str(folder.resolve()) for task, folder in data_dirs.items()},
        resources.threads,
        log,
        objectives=tuple(objectives),
        adapter=adapter,
        teachers=tuple(teachers),
        distillation=distillation,
        former=former,
        windows=Windows(stream, feed) if stream else None,
    )
    trainer = ray.train.torch.TorchTrainer(
        run_worker,
        train_loop_config={"job": job},
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if resources.use_gpu else "gloo", timeout_s=600
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=train.workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus}
            | ({"GPU": 1.0} if resources.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(out_dir.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=train.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=train.keep_checkpoints),
            # the field of Train V2, which ray.train is at run time
            worker_runtime_env={"env_vars": _worker_environment(resources)},  # type: ignore[call-arg]
        ),
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with (
            Followers((Tensorboard(), *trackers), _tracked(job, out_dir, name, title)) as all_,
            ProgressReader(log, out_dir=out_dir, followers=all_, on_record=on_record) as reader,
            _interruptible(),
        ):
            result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        workers = getattr(error, "worker_failures", None) or {}
        told = {rank: str(cause) for rank, cause in workers.items()}
        raise TrainingError(explain(told, str(error), stall=reader.stall)) from None
    finally:
        for actor in filter(None, (log, feed)):
            ray.kill(actor)
    assert result.checkpoint is not None
    weights = Path(result.checkpoint.path) / WEIGHTS
    if not weights.is_dir():
        raise TrainingError(f"the last checkpoint '{result.checkpoint.path}' holds no weights.")
    if stream:
        stream.remove()
    return weights


def _tracked(job: Job, out_dir: Path, name: str, title: str) -> TrackedRun:
    """The run of a job, and what decides about it."""
    settings = {
        "model": job.model,
        "train": job.train.model_dump(mode="json"),
        "tasks": {name: task.model_dump(mode="json") for name, task in job.tasks.items()},
        "objectives": {one.kind: one.model_dump(mode="json") for one in job.objectives},
        "adapter": job.adapter.model_dump(mode="json") if job.adapter else {},
    }
    return TrackedRun(name, title or name, out_dir, settings)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, during training and after it.

    Ray Train puts its own handler in place for good; it aborts the run and ends the process.
    """
    former = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, former)


def _worker_environment(resources: Resources) -> dict[str, str]:
    """What Ray does not pass on by itself."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        "DS_ACCELERATOR": "cuda" if resources.use_gpu else "cpu",
        "OMP_NUM_THREADS": str(resources.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": os.environ.get("PATH", ""),
    }
