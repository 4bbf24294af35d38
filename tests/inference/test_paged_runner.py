import numpy as np

from ray_sft.inference.paged_runner import pack_texts


def test_texts_are_packed_without_their_padding_and_each_has_pages_of_its_own():
    ids = np.arange(18).reshape(3, 6)
    mask = np.array([[1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]])
    packed = pack_texts(ids, mask, block_size=2)
    assert packed.input_ids.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15]
    assert packed.cumulative_sequence_lengths.tolist() == [0, 5, 7, 11]
    assert packed.past_sequence_lengths.tolist() == [0, 0, 0]
    assert packed.block_table.tolist() == [[0, 1, 2], [3, -1, -1], [4, 5, -1]]
    assert packed.attention_metadata.tolist() == [5, 5, 0]
    assert packed.num_blocks == 6
    tables = (packed.cumulative_sequence_lengths, packed.block_table, packed.attention_metadata)
    assert {table.dtype for table in tables} == {np.dtype(np.int32)}


def test_a_text_that_fills_its_pages_takes_no_more():
    packed = pack_texts(np.ones((2, 4)), np.ones((2, 4)), block_size=4)
    assert packed.block_table.tolist() == [[0], [1]]
    assert packed.num_blocks == 2
