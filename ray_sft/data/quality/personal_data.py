"""Personal data replaced by what it was.

Numbers count by their check digits, so that an order number of 16 digits stays: nine of ten wrong
ones are told from a card's.
"""

import re
from collections.abc import Callable, Sequence

import phonenumbers
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.us import ssn

from ray_sft.data.quality.config import PersonalData

__all__ = ["Masker"]

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IDENTITY: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"(?<![A-Za-z0-9])\d{17}[\dXx](?![A-Za-z0-9])"), ric.is_valid),
    (re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), ssn.is_valid),
    (re.compile(r"(?<![\d-])\d{3} \d{3} \d{4}(?![\d-])"), nhs.is_valid),
    (re.compile(r"(?<!\d)\d{2} ?\d{3} ?\d{3} ?\d{3}(?!\d)"), idnr.is_valid),
    (re.compile(r"(?<!\w)\d{8}[- ]?[A-Z](?!\w)"), dni.is_valid),
    (re.compile(r"(?<!\w)[XYZ]\d{7}[- ]?[A-Z](?!\w)"), nie.is_valid),
    (re.compile(r"(?<!\d)[12](?: ?\d){14}(?!\d)"), nir.is_valid),
    (re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z](?!\w)"), codicefiscale.is_valid),
)
_FEWEST_PHONE_DIGITS = 7


class Masker:
    """Replaces personal data in texts."""

    def __init__(self, kinds: Sequence[PersonalData], phone_regions: Sequence[str]) -> None:
        """Of some kinds; telephone numbers as these countries write them, and with ``+``."""
        finders: dict[PersonalData, Callable[[str], str]] = {
            "email": lambda text: _EMAIL.sub("[EMAIL]", text),
            "bank_account": lambda text: _valid(text, _IBAN, iban.is_valid, "[ACCOUNT]"),
            "card": lambda text: _valid(text, _CARD, _is_card, "[CARD]"),
            "identity_number": _mask_identity,
            "phone": self._mask_phones,
        }
        self._regions = [*phone_regions, None]
        self._finders = [finder for kind, finder in finders.items() if kind in kinds]

    def __call__(self, text: str) -> str:
        """``text`` with its personal data replaced."""
        for finder in self._finders:
            text = finder(text)
        return text

    def _mask_phones(self, text: str) -> str:
        if sum(character.isdigit() for character in text) < _FEWEST_PHONE_DIGITS:
            return text
        for region in self._regions:
            found = list(phonenumbers.PhoneNumberMatcher(text, region))
            for match in reversed(found):
                text = f"{text[: match.start]}[PHONE]{text[match.end :]}"
        return text


def _mask_identity(text: str) -> str:
    for pattern, is_valid in _IDENTITY:
        text = _valid(text, pattern, is_valid, "[ID]")
    return text


def _valid(text: str, pattern: re.Pattern[str], is_valid: Callable[[str], bool], mask: str) -> str:
    def replace(match: re.Match[str]) -> str:
        return mask if is_valid(match[0]) else match[0]

    return pattern.sub(replace, text)


def _is_card(number: str) -> bool:
    digits = re.sub("[ -]", "", number)
    return digits[0] in "23456" and bool(luhn.is_valid(digits))
