"""Turns a phrasing into a sentence: choices, slots, typing errors, and the wrapper around it."""

import re
from collections.abc import Callable, Mapping
from random import Random

from ray_sft.samples.material_reader import Language, read_sections

__all__ = ["Slots", "choose", "fill", "normalized", "slot_names", "with_typo"]

_CHOICE = re.compile(r"\[([^\[\]]+)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ZH_TYPOS = {
    "为什么": "为啥",
    "什么时候": "啥时候",
    "怎么": "咋",
    "账户": "帐户",
    "账号": "帐号",
    "已经": "以经",
}


def choose(template: str, rng: Random) -> str:
    """The template with every `[a|b]` decided."""
    return _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)


def slot_names(template: str) -> set[str]:
    """Names of the slots that a template leaves open."""
    return set(_SLOT.findall(template))


def normalized(text: str) -> str:
    """Text without case, digits, punctuation and repeated spaces; equal means a duplicate."""
    return re.sub(r"[\W\d_]+", " ", text.lower()).strip()


def with_typo(template: str, rng: Random, *, language: Language) -> str:
    """The template with one typing error outside its slots, if a word allows one."""
    if language == "zh":
        found = [right for right in _ZH_TYPOS if right in template]
        if not found:
            return template
        right = rng.choice(found)
        return template.replace(right, _ZH_TYPOS[right], 1)
    words = template.split(" ")
    long_words = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 3]
    if not long_words:
        return template
    position = rng.choice(long_words)
    words[position] = _mistyped(words[position], rng)
    return " ".join(words)


def _mistyped(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    if rng.random() < 0.4:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if rng.random() < 0.6:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


class Slots:
    """Values for slots of one language; a draw is consistent within one message or dialogue."""

    def __init__(self, language: Language) -> None:
        """Reads the values of `language`."""
        self.language = language
        self._lists: Mapping[str, list[str]] = {
            name: [value.strip() for line in lines for value in line.split("|")]
            for name, lines in read_sections(f"slots_{language}").items()
        }

    def draw(self, rng: Random) -> dict[str, str]:
        """One value for every slot; `item2` differs from `item`."""
        values = {name: rng.choice(options) for name, options in self._lists.items()}
        others = [item for item in self._lists["item"] if item != values["item"]]
        values["item2"] = rng.choice(others)
        values["order"] = rng.choice(["NV-", "NV-", "#"]) + str(rng.randrange(100000, 999999))
        values["last4"] = str(rng.randrange(1000, 9999))
        number = rng.randrange(3, 40)
        values["num"], values["num2"] = str(number), str(number + rng.randrange(2, 9))
        amount, date = _LOCALIZED[self.language]
        values["amount"], values["date"] = amount(rng), date(rng)
        return values


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its slots replaced.

    Raises:
        KeyError: If a slot has no value.
    """
    return _SLOT.sub(lambda match: values[match.group(1)], template)


_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "September", "October")


def _amount_en(rng: Random) -> str:
    return f"${rng.randrange(12, 240)}{rng.choice(['', '', '.50', '.90', '.99'])}"


def _amount_zh(rng: Random) -> str:
    return f"{rng.randrange(29, 1600)}{rng.choice(['元', '元', '块', '块钱'])}"


def _date_en(rng: Random) -> str:
    month, day = rng.choice(_MONTHS), rng.randrange(1, 29)
    return rng.choice([f"{day} {month}", f"{month} {day}", f"{month[:3]} {day}"])


def _date_zh(rng: Random) -> str:
    return f"{rng.randrange(1, 13)}月{rng.randrange(1, 29)}{rng.choice(['号', '日'])}"


_LOCALIZED: dict[Language, tuple[Callable[[Random], str], Callable[[Random], str]]] = {
    "en": (_amount_en, _date_en),
    "zh": (_amount_zh, _date_zh),
}
