"""The laws of rows and of determinism on a real Ray, for every source and every augmentation.

Whatever the number of parts, blocks and tasks: the same samples, copies and rejected rows, each
row in one place.
"""

from functools import cache

import numpy as np
import pytest

from ray_sft.data import (
    AnyAugmentation,
    AnySource,
    Csv,
    Quality,
    SampleStore,
    Splits,
    encode,
    prepare,
)
from ray_sft.data import rows as rows_module
from ray_sft.data.augment import CharacterNoise
from ray_sft.data.index import write_index
from ray_sft.data.rows import position_of, read_rows, small_blocks
from tests.factories import AUGMENTATIONS, TEXTS, members, tiny_wordpiece
from tests.source_factories import SOURCES, TEXT_TASK, cut

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.usefixtures("local_ray")]

NUM_ROWS = 600
"""Three batches of encoding."""
NUM_AUGMENTED = 1800
"""Eight batches with copies: enough work for a second process to take some of it."""


def said(number):
    if number % 97 == 3:
        return None
    return "no" if number % 89 == 5 else f"please, send 我的 parcel {number}"


ROWS = [said(number) for number in range(NUM_ROWS)]
"""Some of them are of no use to the source or to the task, and some are too short."""
QUALITY = Quality(min_chars=3)
UNUSED = {number for number, text in enumerate(ROWS) if text in (None, "no")}
SEED = 7


@pytest.fixture(scope="module")
def processor_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    tiny_wordpiece().save_pretrained(folder)
    return folder


def encoded(source, task, augment, *, processor_dir, out_dir, num_tasks):
    encode(
        source,
        task,
        processor_dir=processor_dir,
        out_dir=out_dir,
        num_tasks=num_tasks,
        augment=augment,
        seed=SEED,
        quality=QUALITY,
    )
    write_index(out_dir)
    return SampleStore(out_dir)


@cache
def arrays(store):
    return [
        {name: (array.dtype, array.tolist()) for name, array in example.arrays.items()}
        for example in store.all()
    ]


def everything(store):
    """All that a store holds, the order included."""
    columns = (store.positions, store.copy_numbers, store.contents, store.lengths, store.weights)
    return [
        *(column.tolist() for column in columns),
        arrays(store),
        store.rejected.to_pylist(),
        store.summary(),
    ]


def places(case, num_parts):
    """The position of each row, by how the rows were cut."""
    parts = cut(ROWS, num_parts) if case.has_parts else [ROWS]
    return [position_of(n, index) for n, part in enumerate(parts) for index in range(len(part))]


def by_number(store, positions):
    """By the number of its row in the source: the arrays of a sample, or why there is none."""
    numbers = {position: number for number, position in enumerate(positions)}
    copies, found = store.copy_numbers.tolist(), {}
    for position, copy, example in zip(
        store.positions.tolist(), copies, arrays(store), strict=True
    ):
        if copy == 0:
            found.setdefault(numbers[position], []).append(example)
    for row in store.rejected.to_pylist():
        found.setdefault(numbers[row["position"]], []).append(row["reason"])
    return found


RUNS = ((1, 2), (2, 2), (7, 1), (7, 2), (7, 4))
"""Parts of the source and tasks that encode its rows."""


@pytest.fixture(scope="module", params=members(AnySource), ids=lambda kind: kind.__name__)
def stores(request, tmp_path_factory, processor_dir):
    """A kind of source, and what became of its rows by the numbers of parts and of tasks."""
    kind = request.param
    assert kind in SOURCES, f"{kind.__name__} has no factory in tests/source_factories.py"
    case, folder = SOURCES[kind], tmp_path_factory.mktemp("source")
    sources = {}
    for num_parts in {num_parts for num_parts, _ in RUNS}:
        (folder / f"{num_parts}").mkdir()
        sources[num_parts] = case.write(folder / f"{num_parts}", ROWS, num_parts)
    return case, {
        run: encoded(
            sources[run[0]],
            case.task,
            (CharacterNoise(rate=0.3),),
            processor_dir=processor_dir,
            out_dir=folder / f"{run[0]}-{run[1]}",
            num_tasks=run[1],
        )
        for run in RUNS
    }


def test_each_row_is_one_sample_or_rejected_with_a_reason(stores):
    case, runs = stores
    for (num_parts, _), store in runs.items():
        found = by_number(store, places(case, num_parts))
        assert sorted(found) == list(range(NUM_ROWS))
        assert {len(what) for what in found.values()} == {1}
        reasons = {number for number, (what,) in found.items() if isinstance(what, str)}
        assert reasons == UNUSED
        assert all(found[number][0] for number in UNUSED)
        summary = store.summary()
        assert (summary.num_rows, summary.num_rejected) == (NUM_ROWS, len(UNUSED))


def test_the_same_store_whatever_the_number_of_tasks(stores):
    _, runs = stores
    one, two, four = (everything(runs[7, num_tasks]) for num_tasks in (1, 2, 4))
    assert one == two == four
    assert runs[7, 1].summary().num_augmented > NUM_ROWS / 2


def test_the_same_rows_however_the_source_is_cut(stores):
    case, runs = stores
    one, two, seven = (
        {
            # a reason may name a line of its part
            number: "rejected" if isinstance(what, str) else what
            for number, (what,) in by_number(runs[n, 2], places(case, n)).items()
        }
        for n in (1, 2, 7)
    )
    assert one == two == seven
    for num_parts in (1, 2, 7):
        order = runs[num_parts, 2].positions
        assert (np.diff(order) >= 0).all(), "in the order of the source"


@pytest.fixture(scope="module")
def one_part(tmp_path_factory):
    """A source of one part, and how large blocks are by how many it is read in."""
    rows = [said(number) for number in range(NUM_AUGMENTED)]
    source = SOURCES[Csv].write(tmp_path_factory.mktemp("rows"), rows, 1)
    size = read_rows(source, source.slices()).materialize().size_bytes()
    sizes = {num_blocks: size // num_blocks for num_blocks in (1, 2, 7)}
    for num_blocks, block_bytes in sizes.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows_module, "_BLOCK_BYTES", block_bytes)
            with small_blocks(travel=True):
                found = read_rows(source, source.slices()).materialize().num_blocks()
        assert found == 1 if num_blocks == 1 else found >= num_blocks
    return source, sizes


@pytest.mark.parametrize("kind", members(AnyAugmentation), ids=lambda kind: kind.__name__)
def test_the_same_copies_whatever_the_number_of_blocks_and_tasks(
    kind, tmp_path, processor_dir, one_part, monkeypatch
):
    assert kind in AUGMENTATIONS, f"{kind.__name__} has no factory in tests/factories.py"
    operation = AUGMENTATIONS[kind]().model_copy(update={"copies": 2})
    source, block_bytes = one_part
    stores = []
    for num_blocks, num_tasks in ((1, 1), (7, 4)):
        monkeypatch.setattr(rows_module, "_BLOCK_BYTES", block_bytes[num_blocks])
        stores.append(
            encoded(
                source,
                TEXT_TASK,
                (operation,),
                processor_dir=processor_dir,
                out_dir=tmp_path / f"{num_blocks}-{num_tasks}",
                num_tasks=num_tasks,
            )
        )
    first, *others = (everything(store) for store in stores)
    assert all(other == first for other in others)
    assert set(stores[0].copy_numbers.tolist()) == {0, 1, 2}


def twice_and_a_word_apart(rng):
    """Each of 200 texts, and the same with another word, in any order."""
    words = sorted({word for text in TEXTS for word in text.split()})
    texts = []
    for _ in range(200):
        text = rng.choice(words, 16).tolist()
        texts += [" ".join(text), " ".join([*text[:-1], "another"])]
    return rng.permutation(texts).tolist()


def test_the_same_rows_stay_of_those_that_say_nearly_the_same(tmp_path, processor_dir):
    texts = twice_and_a_word_apart(np.random.default_rng(0))
    for name in ("train", "eval"):
        (tmp_path / name).mkdir()
    train = SOURCES[Csv].write(tmp_path / "train", texts, 7)
    stores = []
    for num_tasks in (1, 2, 4):
        out_dir = tmp_path / f"{num_tasks}"
        prepare(
            TEXT_TASK,
            Splits(train=train, eval=SOURCES[Csv].write(tmp_path / "eval", texts[:30], 1)),
            processor_dir=processor_dir,
            out_dir=out_dir,
            num_tasks=num_tasks,
            quality=Quality(duplicates="near", leaks="remove"),
        )
        stores.append(SampleStore(out_dir / "train"))
    one, two, four = (everything(store) for store in stores)
    assert one == two == four
    assert 160 < len(stores[0]) < 200
