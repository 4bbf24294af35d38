"""Personal data is masked, and what only looks like it is not."""

import pytest

from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.quality.personal_data import Masker

EVERYTHING = ("email", "phone", "card", "bank_account", "identity_number")
MASK = Masker(EVERYTHING, ("US", "GB", "CN"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jo.doe+x@mail.example.co.uk, please", "write to [EMAIL], please"),
        ("邮箱是zhang_san@example.com。", "邮箱是[EMAIL]。"),
        ("call +49 30 901820 now", "call [PHONE] now"),
        ("call (650) 253-0000 or 020 7031 3000", "call [PHONE] or [PHONE]"),
        ("手机13812345678", "手机[PHONE]"),
        ("card 4111 1111 1111 1111 exp 12/27", "card [CARD] exp 12/27"),
        ("5500-0000-0000-0004", "[CARD]"),
        ("pay DE89 3704 0044 0532 0130 00 today", "pay [ACCOUNT] today"),
        ("GB82WEST12345698765432", "[ACCOUNT]"),
        ("身份证11010519491231002X", "身份证[ID]"),
        ("ssn 536-90-4399.", "ssn [ID]."),
    ],
)
def test_personal_data_is_replaced_by_what_it_was(text, masked):
    assert MASK(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112 is late",
        "my order 20261125 of 25.11.2026 at 12:30",
        "I paid $1,234,567.89 for 3 items",
        "version 3.11.7 of python",
        "user@host and @mention and a@b",
        "tracking number 110105194912310021",
        "the year 1999-2000, pages 100-200",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert MASK(text) == text


def test_only_the_kinds_that_are_asked_for_are_masked():
    text = "jo@example.com +49 30 901820"
    assert Masker(("email",), ())(text) == "[EMAIL] +49 30 901820"
    assert Masker(("phone",), ())(text) == "jo@example.com [PHONE]"


def test_masking_twice_changes_nothing_more():
    once = MASK("jo@example.com, 4111 1111 1111 1111, (650) 253-0000")
    assert MASK(once) == once


def test_rows_are_masked_before_they_are_measured():
    check = RowCheck(Quality(mask=("email",), max_chars=10))
    assert check({"text": "a-very-long-name@example.com"}) == {"text": "[EMAIL]"}
