"""Data sets of the hub: from a folder, and what is told where one cannot be read."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_sft.core import DataError
from ray_sft.data import Hub, iterate_rows

COUNT = 3000


@pytest.fixture
def folder(tmp_path):
    """A data set of two files."""
    for number in range(2):
        texts = [f"{number} {index * 7919 % 10_007}" for index in range(COUNT)]
        pq.write_table(pa.table({"text": texts}), tmp_path / f"train-{number}.parquet")
    return tmp_path


class NoSuchDataSet(BaseHTTPRequestHandler):
    """Answers as the hub does where nobody has such a data set."""

    def do_HEAD(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()

    def log_message(self, *_):
        pass


def test_an_id_that_the_hub_does_not_know_is_told_with_what_to_check(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoSuchDataSet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
    }
    program = (
        "from ray_sft.data import Hub\n"
        "try:\n"
        "    print(list(Hub(path='nobody/nothing', split='validation').read('nobody/nothing')))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    # where the hub is, is read when its client is imported
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    server.shutdown()
    server.server_close()
    assert done.stdout.startswith("DataError cannot read hub data set 'nobody/nothing': "), done
    for words in ("doesn't exist on the Hub", "split ('validation')", "HF_TOKEN"):
        assert words in done.stdout


def test_a_file_that_is_cut_off_is_told_while_it_is_read(folder):
    path = folder / "train-1.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    rows = iterate_rows(Hub(path=str(folder)))
    assert [next(rows)["text"][0] for _ in range(COUNT)] == ["0"] * COUNT
    with pytest.raises(DataError, match=r"cannot read hub data set '/.*magic bytes not found"):
        next(rows)


def test_a_split_that_is_not_there_is_told(folder):
    with pytest.raises(DataError, match=r"cannot read hub data set .*split \('nothing'\)"):
        next(iterate_rows(Hub(path=str(folder), split="nothing")))
