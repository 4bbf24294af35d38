"""The laws that every source obeys: each row once, in order, the same wherever it is read."""

import json
import pickle

import pytest
from pydantic import TypeAdapter

from ray_sft.data import AnySource, Source
from ray_sft.data.rows import iterate_positions, iterate_rows, position_of
from ray_sft.data.sources import BadRow, LeftOut, Several
from tests.factories import members
from tests.source_factories import SOURCES, SourceCase, cut, said_by

KINDS = members(AnySource)

ROWS = [f"zeile {number:02} 好" for number in range(23)]
SPOILED = [None if number in (3, 11) else text for number, text in enumerate(ROWS)]
"""The same rows, two of which are of no use."""
PARTS = (1, 2, 7)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def case(request) -> SourceCase:
    kind = request.param
    assert kind in SOURCES, f"{kind.__name__} has no factory in tests/source_factories.py"
    return SOURCES[kind]


def changed(source: Source, **settings) -> Source:
    """With other settings, which are those of the single sources where it is several."""
    if isinstance(source, Several):
        return Several(sources=tuple(changed(single, **settings) for single in source.sources))
    return type(source).model_validate(source.model_dump() | settings)


def placed(source):
    """Every row that is read, good and bad ones, with its position."""
    return [
        (position_of(chosen.number, index), row)
        for chosen in source.slices()
        for index, row in source.rows(chosen)
    ]


def places(case, num_parts):
    """The position of each row, by how the rows were cut."""
    parts = cut(ROWS, num_parts) if case.has_parts else [ROWS]
    return [position_of(n, index) for n, part in enumerate(parts) for index in range(len(part))]


@pytest.mark.parametrize("num_parts", PARTS)
def test_every_row_comes_once_at_its_position_or_with_a_reason(case, tmp_path, num_parts):
    source = case.write(tmp_path, SPOILED, num_parts)
    positions, rows = zip(*placed(source), strict=True)
    assert list(positions) == places(case, num_parts)
    assert [said_by(row) for row in rows] == SPOILED
    assert all(str(row) for row in rows if isinstance(row, BadRow)), "a reason is told"
    good = [pair for pair in placed(source) if isinstance(pair[1], dict)]
    assert list(iterate_positions(source)) == good


def test_reading_again_gives_the_same_rows(case, tmp_path):
    source = case.write(tmp_path, SPOILED, 2)
    assert placed(source) == placed(source)


@pytest.mark.parametrize("num_parts", PARTS)
def test_slices_come_in_order_and_know_their_columns(case, tmp_path, num_parts):
    source = case.write(tmp_path, ROWS, num_parts)
    slices = source.slices()
    numbers = [chosen.number for chosen in slices]
    assert numbers == sorted(set(numbers))
    assert [chosen.part for chosen in slices] == source.parts()
    for chosen in slices:
        _, row = next(source.rows(chosen))
        assert set(source.column_names(chosen.part)) <= set(row)


@pytest.mark.parametrize(("skip", "take"), [(0, 5), (6, 0), (6, 9), (22, 5)])
def test_skip_and_take_choose_a_range_and_move_no_row(case, tmp_path, skip, take):
    num_parts = 1 if case is SOURCES[Several] else 4  # each of several has a range of its own
    whole = case.write(tmp_path, SPOILED, num_parts)
    some = placed(changed(whole, skip=skip, take=take))
    assert some == placed(whole)[skip : skip + take if take else None]


def test_where_leaves_out_rows_and_moves_none(case, tmp_path):
    source = case.write(tmp_path, ROWS, 2)
    some = placed(changed(source, where=f"not matches({case.said}, '1[0-4]')"))
    left_out = [number for number, (_, row) in enumerate(some) if isinstance(row, LeftOut)]
    assert left_out == [10, 11, 12, 13, 14]
    kept = [pair for pair in some if not isinstance(pair[1], LeftOut)]
    assert kept == [p for number, p in enumerate(placed(source)) if number not in left_out]


def test_it_is_the_same_after_json_and_pickling(case, tmp_path):
    source = case.write(tmp_path, ROWS, 2)
    again = TypeAdapter(AnySource).validate_python(json.loads(source.model_dump_json()))
    sent = pickle.loads(pickle.dumps(source))
    assert source == again == sent
    assert list(iterate_rows(source)) == list(iterate_rows(again)) == list(iterate_rows(sent))
    assert source.fingerprint() == again.fingerprint() == sent.fingerprint()
    assert source.title
    with pytest.raises(ValueError, match="frozen"):
        source.weight = 2.0


def test_the_fingerprint_follows_the_rows_and_the_settings(case, tmp_path):
    source = case.write(tmp_path, ROWS, 2)
    before = source.fingerprint()
    other = changed(source, weight=2.0).fingerprint()
    more = case.write(tmp_path, [*ROWS, "one more"], 2)
    assert more == source
    assert len({before, other, more.fingerprint()}) == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_explained_and_the_kind_is_the_name_of_the_module(kind):
    for name, field in kind.model_fields.items():
        assert name == "source" or field.description, name
    assert kind.__module__.rsplit(".", 1)[-1] == kind.model_fields["source"].default
    assert kind.__name__.lower() == kind.model_fields["source"].default
