from ray_sft.data.augment.segments import RUNS, is_han, pieces_of
from ray_sft.data.augment.synonyms import CHINESE, ENGLISH, LONGEST_CHINESE, synonyms_of


def test_synonyms_are_single_words_in_lower_case_and_stand_for_each_other():
    for word, others in ENGLISH.items():
        assert word == word.lower()
        assert pieces_of(word, RUNS)[1::2] == [word]
        assert word not in others
        assert all(word in ENGLISH[other] for other in others)


def test_chinese_synonyms_are_long_enough_to_be_found_without_a_segmenter():
    for word, others in CHINESE.items():
        assert is_han(word)
        assert 2 <= len(word) <= LONGEST_CHINESE
        assert word not in others
        assert all(word in CHINESE[other] for other in others)


def test_the_lists_hold_several_hundred_words():
    assert len(ENGLISH) > 800
    assert len(CHINESE) > 400


def test_the_casing_of_a_word_is_kept():
    assert synonyms_of("parcel") == ("package", "shipment")
    assert synonyms_of("Parcel") == ("Package", "Shipment")
    assert synonyms_of("PARCEL") == ("PACKAGE", "SHIPMENT")
    assert synonyms_of("转账") == ("汇款",)
    assert synonyms_of("xyzzy") == ()
