"""Files by path or URI: folders of this machine, object storage, and whatever fsspec knows.

``s3://``, ``gs://`` and ``hdfs://`` go through Arrow's own clients, which need no further package;
other schemes (``https://``, ``abfs://``, ``sftp://``, ...) through the fsspec package of that
scheme. Credentials come from where the client looks for them (environment, files of the machine),
never from a path.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlencode, urlsplit

import fsspec
import pyarrow
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from ray_sft.core.errors import DataError, reason_of

__all__ = ["StoredFile", "find_files", "open_file", "open_stream"]

_ARROW_SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs")
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Of other clients of S3; Arrow does not read them (apache/arrow issue 49643)."""
_WILDCARDS = "*?["
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
"""Arrow's names of compressions, by the suffix of the file."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was found."""

    path: str
    """Its absolute path, or its URI."""
    num_bytes: int
    version: str
    """Changes with its content, as far as the storage tells: entity tag, version or time."""


def find_files(path: str, suffixes: Sequence[str]) -> list[StoredFile]:
    """The files of a path, sorted by path: itself, a glob, or what a folder holds.

    Files of a folder, at any depth, count where they end in one of ``suffixes``, compressed or
    not. Hidden files and those of hidden folders do not.

    Raises:
        DataError: the path names nothing, or its storage cannot be asked.
    """
    with _readable_errors(path):
        storage, inner = _storage(path)
        is_pattern = any(sign in inner for sign in _WILDCARDS) and not storage.exists(inner)
        if is_pattern:
            found = storage.glob(inner, detail=True)
        elif storage.isdir(inner):
            found = {
                name: info
                for name, info in storage.find(inner, detail=True).items()
                if _plain_name(name).lower().endswith(tuple(suffixes))
                and not _is_hidden(name.removeprefix(inner))
            }
            if not found:
                raise DataError(
                    f"folder '{path}' holds no file that ends in {' or '.join(suffixes)}."
                )
        else:
            found = {inner: storage.info(inner)} if storage.exists(inner) else {}
    files = [
        StoredFile(_full(path, name), int(info["size"] or 0), _version(info))
        for name, info in sorted(found.items())
        if info["type"] == "file"
    ]
    if not files:
        raise DataError(_missing(path))
    return files


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file from their beginning, decompressed where its name says so.

    gzip (also of several members), bzip2, zstd, lz4 (frames) and brotli.

    Raises:
        DataError: what is done in the block meets an end too soon, or the storage fails.
    """
    with _readable_errors(path):
        storage, inner = _storage(path)
        with storage.open(inner, "rb") as raw:
            codec = _codec(path)
            if codec is None:
                yield raw
            else:
                with pyarrow.CompressedInputStream(raw, codec) as stream:
                    yield cast(BinaryIO, stream)


def open_file(path: str) -> BinaryIO:
    """A file that can be read anywhere; the caller closes it.

    Raises:
        DataError: the file cannot be opened.
    """
    with _readable_errors(path):
        storage, inner = _storage(path)
        return cast(BinaryIO, storage.open(inner, "rb"))


def _storage(path: str) -> tuple[Any, str]:
    """The file system of a path, as fsspec has them, and the path in it."""
    scheme = urlsplit(path).scheme if "://" in path else ""
    if not scheme:
        return fsspec.filesystem("file"), str(Path(path).expanduser().absolute())
    if scheme not in {*_ARROW_SCHEMES, *fsspec.available_protocols()}:
        raise DataError(f"'{path}': no storage is known by '{scheme}://'.")
    if scheme not in _ARROW_SCHEMES:
        return cast(tuple[Any, str], fsspec.url_to_fs(path))
    plain, _, options = path.partition("?")
    arrow, _ = fs.FileSystem.from_uri(_with_endpoint(scheme, plain.split("*")[0], options))
    return ArrowFSWrapper(arrow), plain.partition("://")[2]


def _with_endpoint(scheme: str, uri: str, options: str) -> str:
    address = next((os.environ[v] for v in _ENDPOINT_VARIABLES if os.environ.get(v)), "")
    if scheme == "s3" and address and "endpoint_override" not in options:
        parts = urlsplit(address)
        chosen = urlencode({"endpoint_override": parts.netloc, "scheme": parts.scheme or "https"})
        options = f"{options}&{chosen}" if options else chosen
    return f"{uri}?{options}" if options else uri


def _full(path: str, name: str) -> str:
    """The name that a storage gives a file, as a path that finds the same storage again."""
    if "://" not in path:
        return name
    scheme = urlsplit(path).scheme
    options = "".join(path.partition("?")[1:]) if scheme in _ARROW_SCHEMES else ""
    start = "" if "://" in name else f"{scheme}://"
    return start + name + options


def _codec(path: str) -> str | None:
    name = path.partition("?")[0] if "://" in path else path
    return _CODECS.get(Path(name).suffix.lower())


def _plain_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    return name if _codec(name) is None else str(Path(name).with_suffix(""))


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/") if part)


def _version(info: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
    return next((str(info[name]) for name in known if info.get(name)), "")


def _missing(path: str) -> str:
    # a job may run in a folder that its cluster has removed since
    is_absolute = "://" in path or Path(path).expanduser().is_absolute()
    place = "" if is_absolute else f" (looked from '{Path.cwd()}')"
    return f"data path '{path}' does not exist{place}."


@contextmanager
def _readable_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(_missing(path)) from None
    except ImportError as error:
        raise DataError(
            f"'{path}' needs a package that is not installed: {error}. Install it and try again."
        ) from None
    except EOFError as error:
        raise DataError(f"'{path}' ends too soon: {error}. {_TORN}") from None
    except (OSError, pyarrow.ArrowException) as error:
        advice = f" {_TORN}" if "runcated" in str(error) else ""
        reason = reason_of(error).rstrip(".")
        raise DataError(f"'{path}' cannot be read: {reason}.{advice}") from None


_TORN = "It was cut off while it was written or copied; get it whole."
