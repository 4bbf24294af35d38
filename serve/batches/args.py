"""What batches are started with. Defaults suit a laptop, with the sizes that OpenAI allows."""

from pydantic import Field

from ray_sft.core import Config

__all__ = ["BatchArgs"]

_MIB = 1 << 20


class BatchArgs(Config):
    """Everything that shapes batches."""

    folder: str = Field(default="batches", min_length=1)
    """Where files and batches lie. Every machine that the service or its batches run on must have
    it under this path: a folder of a shared file system where there are several."""
    concurrency: int = Field(default=1, ge=1)
    """Processes that work on a batch at the same time, each with every model of the service."""
    num_cpus: int = Field(default=1, ge=1)
    """Processors of each of them, taken only while a batch runs."""
    lines_at_once: int = Field(default=32, ge=1)
    """Requests that one of them answers at the same time; they share batches of the models."""
    block_lines: int = Field(default=256, ge=1)
    """Requests whose answers are written together; of a batch that is killed no more than one
    block a process is done again."""
    max_file_bytes: int = Field(default=200 * _MIB, ge=1)
    """Longest file that may be uploaded."""
    max_lines: int = Field(default=50_000, ge=1)
    """Requests of one batch."""
    max_line_bytes: int = Field(default=2 * _MIB, ge=1)
    """Longest line of a file; the request in it is also held to the service's max_body_bytes."""
    max_files: int = Field(default=200, ge=1)
    """Files that a key may keep, results included."""
    max_unfinished: int = Field(default=20, ge=1)
    """Batches of a key that may wait or run."""
    days: float = Field(default=30.0, gt=0)
    """After this, files and finished batches are deleted."""
    line_timeout_s: float = Field(default=600.0, gt=0)
    """Longest time of one request within a batch."""
    transfer_timeout_s: float = Field(default=900.0, gt=0)
    """Longest time of an upload or a download, in place of the service's deadline."""

    @property
    def most_cpus(self) -> int:
        """Processors of a batch that runs."""
        return self.concurrency * self.num_cpus

    @property
    def keep_s(self) -> int:
        """Seconds that a file is kept."""
        return max(1, round(self.days * 86_400))
