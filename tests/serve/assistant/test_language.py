import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.assistant.language import clean, detect_language, search_text, terms


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How can I track my order?", "en"),
        ("怎么查询订单物流？", "zh"),
        ("我的 iPhone 15 Pro Max 坏了", "zh"),
        ("What does 谢谢 mean in the message that I was sent?", "en"),
        ("Cómo cancelo?", "en"),
        ("", "en"),
        ("12345 ???", "en"),
    ],
)
def test_the_language_follows_the_share_of_chinese(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_invisible_characters_are_taken_out() -> None:
    hidden = "pay\u202e to\u200b me\x00\ufeff\x1b[31m now\U000e0041"
    assert clean(hidden) == "pay to me[31m now"
    assert clean("one\r\ntwo\rthree\u2028four") == "one\ntwo\nthree\nfour"
    assert clean("  family \U0001f468\u200d\U0001f469\u200d\U0001f467\t订单\n") == (
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467\t订单"
    )


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    once.encode()  # no half of a surrogate pair is left


def test_chinese_is_searched_by_pairs_of_characters() -> None:
    assert search_text("查询订单").split() == ["查询", "询订", "订单"]
    assert search_text("用App查").split() == ["用", "App", "查"]
    assert search_text("Ｐｌｕｓ会员").split() == ["Plus", "会员"]


def test_terms_are_stems_without_stop_words() -> None:
    assert (
        terms("The ORDERS were cancelled") == terms("an order, cancelling") == {"order", "cancel"}
    )
    assert terms("查询订单") == {"查询", "询订", "订单"}
    assert terms("What is it?") == frozenset()
