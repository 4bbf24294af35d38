"""What a user is told of a run that ended."""

import pytest

from ray_sft.training.failures import explain

KILLED = (
    "The actor died unexpectedly before finishing this task.\nWorker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "Some root causes: (1) The process is killed by SIGKILL by OOM killer due to high memory usage."
)
AFTERMATH = (
    "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"
)


def test_the_cause_is_told_and_not_what_followed_from_it():
    found = explain({0: AFTERMATH, 1: KILLED}, "2 workers failed")
    assert found.startswith("training did not finish: Worker exit type: SYSTEM_ERROR")
    assert "(worker 1)" in found
    assert "lower train.tokens_per_step" in found
    assert found.endswith("Started again, the run goes on from its last checkpoint.")


def test_what_followed_is_told_where_nothing_else_is():
    assert "Connection closed by peer" in explain({0: AFTERMATH, 1: ""}, "")


def test_without_workers_the_report_is_told():
    assert explain({}, "first\nthe scheduler gave up").startswith(
        "training did not finish: the scheduler gave up. Started"
    )
    assert "no worker said why" in explain({}, "")


@pytest.mark.parametrize(
    ("text", "helps"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "gradient_accum"),
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "TMPDIR"),
        ("RuntimeError: PytorchStreamWriter failed writing file data/3: file write failed", "disk"),
        ("OSError: [Errno 30] Read-only file system: '/runs'", "mount it again"),
        ("worker exited: SIGBUS", "/dev/shm"),
        ("RuntimeError: CUDA error: no kernel image is available for execution", "pytorch.org"),
        ("RuntimeError: CUDA error: device-side assert triggered", "train.device: cpu"),
        ("RuntimeError: Timed out waiting 600000ms for recv operation", "others waited"),
        ("DistBackendError: NCCL error in ProcessGroupNCCL.cpp:94", "NCCL_DEBUG=INFO"),
        ("ray.exceptions.OutOfMemoryError: the node was running low on memory", "tokens_per_step"),
        ("the worker ended with exit code 137", "lack of memory"),
        ("the worker ended with exit code 143", "scheduler"),
        ("the worker ended with exit code 139", "native library"),
    ],
)
def test_what_helps_is_said(text, helps):
    assert helps in explain({0: text}, "")


def test_whom_the_others_waited_for_is_said_beside_the_time_out():
    stall = "Nothing has moved for 590 s: worker 1 has been silent in step 3."
    found = explain({0: "Timed out waiting 600000ms for recv operation"}, "", stall=stall)
    assert stall in found
