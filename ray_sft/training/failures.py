"""Why a run ended and what to do about it: from what its workers left to a few sentences."""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["explain"]

_ADVICE: Final = (
    (
        r"CUDA out of memory|CUDA error: out of memory",
        "The GPU's memory is full: lower train.tokens_per_step, raise train.gradient_accumulation "
        "or train.zero_stage, or set train.activation_checkpointing: true.",
    ),
    (
        r"No space left on device|Disk quota exceeded|file write failed|Errno 28",
        "The disk is full: free space where runs lie and where temporary files go (TMPDIR), or "
        "lower train.keep_checkpoints.",
    ),
    (
        r"Read-only file system|Stale file handle|Transport endpoint is not connected"
        r"|Input/output error|Errno 5\b",
        "The storage of the run went away: mount it again, and see that it can be written.",
    ),
    (
        r"SIGBUS|Bus error",
        "The machine's shared memory (/dev/shm) is full: give a container more of it (--shm-size), "
        "or Ray a smaller object store.",
    ),
    (
        r"no kernel image is available|driver version is insufficient|forward compatibility",
        "This build of torch does not fit the GPU or its driver: install the one that pytorch.org "
        "names for your CUDA version, or set train.device: cpu.",
    ),
    (
        r"device-side assert|illegal memory access",
        "A GPU kernel met an index out of range: run the same recipe with train.device: cpu, "
        "which names it.",
    ),
    (
        r"Timed out waiting|collective operation timeout|[Ww]ait timeout",
        "A worker did not come to where the others waited for it.",
    ),
    (
        r"NCCL error|nccl(System|Internal|UnhandledCuda)Error",
        "The workers' GPUs could not talk to each other: NCCL_DEBUG=INFO says why, and "
        "NCCL_SOCKET_IFNAME picks the network.",
    ),
    (
        r"OutOfMemory|low on memory|SIGKILL|exit code 137",
        "A worker was killed, most often for lack of memory: lower train.tokens_per_step or raise "
        "train.gradient_accumulation.",
    ),
    (
        r"SIGTERM|exit code 143",
        "A worker was told to end, as by a scheduler that takes its machine back.",
    ),
    (
        r"SIGSEGV|SIGABRT|exit code 13[49]",
        "A native library crashed: see the worker's log, and that no other torch than the pinned "
        "one is installed.",
    ),
)
"""What a text holds, and what helps; the first that is found counts."""
_AFTERMATH: Final = (
    r"Connection (closed|reset|refused)|Broken pipe|ncclRemoteError|Socket closed|aborted by peer"
)
"""What workers say whose partner went away first."""


def explain(workers: Mapping[int, str], report: str, *, stall: str = "") -> str:
    """What a user can act on.

    Args:
        workers: what each failed worker left, by its rank.
        report: what there is where no worker left anything.
        stall: which ranks the others were waiting for, where that is known.
    """
    told = {rank: text.strip() for rank, text in workers.items() if text.strip()}
    first_hand = {rank: text for rank, text in told.items() if not re.search(_AFTERMATH, text)}
    causes = first_hand or told
    rank = min(causes, default=None)
    text = report.strip() if rank is None else causes[rank]
    cause = text.splitlines()[-1].strip() if text else "no worker said why"
    where = "" if rank is None else f" (worker {rank})"
    advice = next((help_ for pattern, help_ in _ADVICE if re.search(pattern, text)), "")
    sentences = [f"training did not finish: {cause.rstrip('.')}{where}.", stall, advice]
    sentences.append("Started again, the run goes on from its last checkpoint.")
    return " ".join(sentence for sentence in sentences if sentence)
