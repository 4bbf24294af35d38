"""What a recipe says about the quality of its rows."""

import hashlib
from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from ray_sft.core import Config
from ray_sft.data.quality.names import check_names
from ray_sft.data.references import ModelReference, weights_of

__all__ = ["PersonalData", "Quality"]

PersonalData: TypeAlias = Literal["email", "phone", "card", "bank_account", "identity_number"]
"""What can be masked: e-mail addresses, telephone numbers, numbers of payment cards (with a right
check digit), IBANs, and numbers that states give a person (China, United States, United Kingdom,
Germany, France, Spain, Italy)."""


class Quality(Config):
    """Which rows are used, and what is done to their texts first.

    Both splits are repaired, masked and held to lengths and languages; duplicates are removed from
    training alone, since evaluation counts every row once.
    """

    repair: bool = True
    """Mend what storage does to texts: UTF-8 that was read as another encoding, HTML entities,
    control characters, byte-order marks, full-width letters and digits; Unicode's NFC."""
    min_chars: int = Field(default=0, ge=0)
    """Characters of the shortest row that is used."""
    max_chars: int = Field(default=0, ge=0)
    """Characters of the longest row that is used; 0 for any."""
    languages: tuple[str, ...] = ()
    """Languages of the rows that are used (ISO 639-1: en, zh, ...); empty for all."""
    language_certainty: float = Field(default=0.7, ge=0, le=1)
    """How sure one must be that a row is in another language to reject it; short texts rarely
    tell."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Training rows to remove: those that say the same to the model as an earlier one, or nearly
    the same. Those that say the same are counted in any case."""
    similarity: float = Field(default=0.8, ge=0.5, le=1)
    """From which share of common character 5-grams on two texts are nearly the same."""
    leaks: Literal["report", "remove"] = "report"
    """What to do with training rows that evaluation has too (or nearly, with ``near``)."""
    mask: tuple[PersonalData, ...] = ()
    """Personal data to replace by ``[EMAIL]``, ``[PHONE]``, ``[CARD]``, ``[ACCOUNT]``, ``[ID]``."""
    names: ModelReference = ""
    """A bundle of the task token_classification that finds names in texts, which become
    ``[NAME]``; empty to leave names."""
    name_labels: tuple[str, ...] = ("person", "PER")
    """Which of its entities are names, in any casing."""
    phone_regions: tuple[str, ...] = ("US", "GB", "CN")
    """Countries (ISO 3166) whose national spelling of telephone numbers is looked for; numbers
    that begin with ``+`` are found anyway."""

    def check(self) -> None:
        """Raises where the model of names cannot be used; loads no weights.

        Raises:
            BundleError: it is no whole bundle.
            ConfigError: it finds no entities, or none that are called so.
        """
        if self.names:
            check_names(self.names, self.name_labels)

    def fingerprint(self) -> str:
        """Changes where other rows would be used, or their texts be other ones."""
        said = self.model_dump_json() + weights_of(self.names)
        return hashlib.sha256(said.encode()).hexdigest()

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.max_chars and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars {self.max_chars} is below min_chars {self.min_chars}")
        return self
