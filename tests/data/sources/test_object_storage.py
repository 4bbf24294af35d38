"""Files of an S3 bucket, served on loopback."""

import gzip
import io

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from ray_sft.core import DataError
from ray_sft.data import Csv, Jsonl, Parquet, iterate_rows


@pytest.fixture(scope="module")
def bucket():
    """A bucket with the same rows in three formats, and the place where they are."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        table = io.BytesIO()
        pq.write_table(pa.table({"n": ["1", "2", "3"]}), table)
        for key, content in {
            "reviews/a.csv": b"n\n1\n2\n",
            "reviews/deep/b.csv.gz": gzip.compress(b"n\n3\n"),
            "reviews/rows.parquet": table.getvalue(),
            "reviews/torn.jsonl.gz": gzip.compress(b'{"n": 1}\n' * 1000)[:-10],
        }.items():
            client.put_object(Bucket="shop", Key=key, Body=content)
        yield client
    server.stop()


def numbers(source):
    return [row["n"] for row in iterate_rows(source)]


@pytest.mark.usefixtures("bucket")
def test_folders_globs_and_objects_of_a_bucket():
    assert numbers(Csv(path="s3://shop/reviews")) == ["1", "2", "3"]
    assert numbers(Csv(path="s3://shop/**/b*.gz")) == ["3"]
    assert numbers(Parquet(path="s3://shop/reviews/rows.parquet", skip=1)) == ["2", "3"]


def test_the_fingerprint_follows_the_objects(bucket):
    source = Csv(path="s3://shop/reviews/a.csv")
    before = source.fingerprint()
    assert before == source.fingerprint()
    bucket.put_object(Bucket="shop", Key="reviews/a.csv", Body=b"n\n1\n2\n2\n")
    assert before != source.fingerprint()
    bucket.put_object(Bucket="shop", Key="reviews/a.csv", Body=b"n\n1\n2\n")


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_or_torn_is_told():
    for path in ("s3://shop/none.csv", "s3://no-such-bucket/a.csv"):
        with pytest.raises(DataError, match=f"'{path}' does not exist"):
            Csv(path=path).parts()
    with pytest.raises(DataError, match=r"torn\.jsonl\.gz' cannot be read: .*get it whole"):
        numbers(Jsonl(path="s3://shop/reviews/torn.jsonl.gz"))
