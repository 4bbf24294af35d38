"""Every word that the page says itself, in each language it speaks; the words are in a file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = ["Phrases", "load_phrases"]


class Phrases(BaseModel):
    """The page's own words in one language."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    disclosure: str
    language: str
    welcome: str
    welcome_hint: str
    input: str
    send: str
    stop: str
    example_questions: tuple[str, str, str, str, str]
    intent: str
    intent_empty: str
    intent_absent: str
    unsure: str
    sure: str
    others: str
    ready: str
    away: str
    refuses: str
    checking: str
    away_banner: str
    refuses_banner: str
    no_answer: str
    no_chat_model: str
    stopped: str
    nothing_written: str
    retry_after: str


def load_phrases() -> dict[str, Phrases]:
    """The words by language code, the default language first."""
    text = (Path(__file__).parent / "assets" / "phrases.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Phrases]).validate_json(text)
