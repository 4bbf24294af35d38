"""Duplicates found in shards, against Jaccard similarities counted by hand."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from ray_sft.core import DataError
from ray_sft.data import SampleStore
from ray_sft.data.encode import EncodeRows
from ray_sft.data.index import write_index
from ray_sft.data.quality import Quality, find_duplicates
from ray_sft.data.quality.duplicates import NUM_PERMUTATIONS, signature
from ray_sft.data.rows import RowBlock
from ray_sft.data.shards import write_shard
from ray_sft.models import train_tokenizer
from ray_sft.tasks import SequenceClassification

TASK = SequenceClassification(labels=("x", "y"), max_length=64)
WORDS = [f"w{number:03}" for number in range(400)]


def shingles(text):
    text = " ".join(text.casefold().split())
    return {text[at : at + 5] for at in range(max(1, len(text) - 4))}


def jaccard(one, other):
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def sentence(rng, count=25):
    return " ".join(rng.choice(WORDS, count))


@pytest.fixture(scope="module")
def processor_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    train_tokenizer(WORDS * 3, vocab_size=700).save_pretrained(folder)
    return folder


def write(folder, processor_dir, texts, *, files=1):
    """Shards of texts; the first ones stand in the last file."""
    encode = EncodeRows(TASK, str(processor_dir), quality=Quality(duplicates="near"))
    for number, places in enumerate(np.array_split(np.arange(len(texts)), files)[::-1]):
        block = RowBlock()
        for place in places.tolist():
            block.add(place, json.dumps({"text": texts[place], "label": "x"}))
        write_shard(folder, f"{number}", [encode(block.columns())])
    return folder


def test_signatures_estimate_the_jaccard_similarity_of_5_grams():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(150):
        one = sentence(rng)
        words = one.split()
        for at in rng.choice(25, rng.integers(0, 12), replace=False):
            words[at] = rng.choice(WORDS)
        other = " ".join(words)
        estimate = (signature(one) == signature(other)).mean()
        errors.append(estimate - jaccard(one, other))
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 1.2 * np.sqrt(0.25 / NUM_PERMUTATIONS)


def test_case_and_blanks_do_not_count_and_short_texts_have_a_signature():
    assert (signature("Hello  THERE\nyou") == signature("hello there you")).all()
    assert (signature("") != signature("ab")).any()
    assert (signature("你好吗") == signature("你好吗 ")).all()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(120)
def test_planted_duplicates_are_found_and_others_are_not(tmp_path, processor_dir):
    rng = np.random.default_rng(1)
    originals = [sentence(rng) for _ in range(300)]
    planted = []
    for text in originals[:100]:
        words = text.split()
        words[rng.integers(25)] = "another"
        planted.append(" ".join(words))
    similar = [jaccard(a, b) for a, b in zip(originals, planted, strict=False)]
    assert min(similar) > 0.8
    train = write(tmp_path / "train", processor_dir, originals + planted, files=3)
    evaluation = write(tmp_path / "eval", processor_dir, [sentence(rng), originals[200]])
    found = find_duplicates(train, evaluation, similarity=0.8, leaks=True, exact=True)
    expected = {300 + number: number for number in range(100)} | {200: 1}
    assert dict(zip(found.positions.tolist(), found.originals.tolist(), strict=True)) == expected
    assert found.is_leak.tolist() == [position == 200 for position in found.positions.tolist()]
    kept = find_duplicates(train, evaluation, similarity=0.8, leaks=False, exact=True)
    assert kept.positions.tolist() == list(range(300, 400))
    assert not list(tmp_path.rglob("signatures*"))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_first_of_a_group_stays_whatever_the_order_of_the_shards(tmp_path, processor_dir):
    rng = np.random.default_rng(2)
    a, b, c = (sentence(rng) for _ in range(3))
    texts = [a, b, a, c, b, a, a]
    evaluation = write(tmp_path / "eval", processor_dir, [sentence(rng)])
    for files in (1, 3):
        train = write(tmp_path / f"train{files}", processor_dir, texts, files=files)
        found = find_duplicates(train, evaluation, similarity=1.0, leaks=True, exact=True)
        assert found.positions.tolist() == [2, 4, 5, 6]
        assert found.originals.tolist() == [0, 1, 0, 0]
        write_index(train, removed=found)
        store = SampleStore(train)
        assert store.positions.tolist() == [0, 1, 3]
        assert store.rejected["original"].to_pylist() == [0, 1, 0, 0]
        summary = store.summary()
        assert (summary.num_rows, summary.num_accepted, summary.num_rejected) == (7, 3, 4)
        assert summary.reasons == {"says the same as an earlier row": 4}


def test_signatures_that_find_no_room_are_an_error(small_disk, processor_dir):
    rng = np.random.default_rng(3)
    texts = [sentence(rng) for _ in range(400)]
    train = write(small_disk / "train", processor_dir, texts)
    evaluation = write(small_disk / "eval", processor_dir, texts[:1])
    size = shutil.disk_usage(small_disk).used + 100 * NUM_PERMUTATIONS * 4
    subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
    with pytest.raises(DataError, match=r"cannot write to '.*train': No space left on device"):
        find_duplicates(train, evaluation, similarity=0.8, leaks=True, exact=True)
    assert not list(small_disk.rglob("signatures*"))
