"""Batches: files of requests that are answered offline, through Ray Data.

The interface is OpenAI's Files and Batch API, so far as its client uses it. What a batch answers
is what the online routes answer: each process that works on one holds the service's application
and its models. Everything that must outlive a process is a file below `BatchArgs.folder`.

Example:
    >>> from serve.batches import BatchArgs
    >>> BatchArgs(folder="/srv/batches", concurrency=2).most_cpus
    2
"""

from serve.batches.args import BatchArgs

__all__ = ["BatchArgs"]
