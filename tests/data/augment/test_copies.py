from ray_sft.data.augment import CharacterNoise, Eda, copies_of

ROW = {"text": "Where is my parcel? I would like a refund, please.", "label": "parcel"}


def made(operations, *, position=7, seed=3):
    return copies_of([ROW], [position], operations, seed=seed)[0]


def test_copies_are_numbered_and_named_by_their_operation():
    copies = made([CharacterNoise(copies=2), Eda(), CharacterNoise()])
    assert [copy.number for copy in copies] == [1, 2, 3, 4]
    assert [copy.kind for copy in copies] == ["character_noise"] * 2 + ["eda", "character_noise"]
    assert [copy.lineage for copy in copies] == [
        "character_noise#1",
        "character_noise#2",
        "eda#1",
        "character_noise#3",
    ]
    assert len({copy.row["text"] for copy in copies}) == 4


def test_an_operation_added_at_the_end_changes_no_copy_before_it():
    operations = [CharacterNoise(copies=2), Eda()]
    assert made([*operations, CharacterNoise()])[:3] == made(operations)


def test_a_copy_follows_from_seed_position_and_place():
    operation = CharacterNoise(rate=0.3)
    base = made([operation])[0].row
    assert made([operation])[0].row == base
    assert made([operation], seed=4)[0].row != base
    assert made([operation], position=8)[0].row != base
    assert made([operation, operation])[1].row != base


def test_no_operations_make_no_copies():
    assert made([]) == []
