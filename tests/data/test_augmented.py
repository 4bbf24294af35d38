"""The augmented set as a file: complete, in order, the same for any number of files and blocks."""

import json

import pytest

from ray_sft.core import DataError
from ray_sft.data import Jsonl, Quality, write_augmented
from ray_sft.data.augment import CharacterNoise, SurfaceNoise, copies_of
from ray_sft.data.rows import position_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("local_ray"),
]

AUGMENT = (
    CharacterNoise(copies=2),
    SurfaceNoise(case_rate=1, casings=("upper",), punctuation_rate=0),
)


def rows(first, count):
    return [
        {"id": f"r{n}", "text": f"Where is my card {n}? It is späte.", "label": "card"}
        for n in range(first, first + count)
    ]


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_row_is_followed_by_its_copies(tmp_path):
    write(tmp_path / "rows" / "a.jsonl", [*rows(0, 40), {"text": "HOW", "label": "card"}])
    (tmp_path / "rows" / "b.jsonl").write_text("broken\n" + json.dumps(rows(50, 1)[0]) + "\n")
    source = Jsonl(path=str(tmp_path / "rows"))
    out = tmp_path / "out" / "card.jsonl"
    summary = write_augmented(source, AUGMENT, Quality(), out, seed=3)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (summary.num_rows, summary.num_rejected) == (42, 1)
    assert summary.num_copies + summary.num_unchanged == 42 * 3
    assert len(lines) == summary.num_rows + summary.num_copies
    expected = []
    for file, number, row in [
        *((0, n, row) for n, row in enumerate(rows(0, 40))),
        (0, 40, {"text": "HOW", "label": "card"}),
        (1, 1, rows(50, 1)[0]),
    ]:
        parent = {"file": file, "row": number}
        seen = [row]
        expected.append(row | {"lineage": {"parent": parent, "operation": ""}})
        for copy in copies_of([row], [position_of(file, number)], AUGMENT, seed=3)[0]:
            if copy.row not in seen:
                seen.append(copy.row)
                lineage = {"parent": parent, "operation": copy.lineage}
                expected.append(copy.row | {"lineage": lineage})
    assert lines == expected
    again = tmp_path / "again.jsonl"
    write_augmented(source, AUGMENT, Quality(), again, seed=3)
    assert again.read_bytes() == out.read_bytes()
    write_augmented(source, AUGMENT, Quality(), again, seed=4)
    assert again.read_bytes() != out.read_bytes()


def test_a_source_that_breaks_on_the_way_leaves_no_file(tmp_path):
    write(tmp_path / "rows" / "a.jsonl", rows(0, 5))
    (tmp_path / "rows" / "b.jsonl").write_bytes("é".encode("latin-1"))
    out = tmp_path / "card.jsonl"
    with pytest.raises(DataError, match=r"b\.jsonl' is not utf-8"):
        write_augmented(Jsonl(path=str(tmp_path / "rows")), AUGMENT, Quality(), out, seed=3)
    assert not out.exists()
