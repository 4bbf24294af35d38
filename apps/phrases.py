"""Every word that the pages say themselves, in each of their languages; the words are in a file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = [
    "MonitorPhrases",
    "Phrases",
    "RecommendPhrases",
    "ServicePhrases",
    "ShellPhrases",
    "load_phrases",
]


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShellPhrases(_Words):
    """What stands around every page."""

    language: str
    ready: str
    away: str
    refuses: str
    checking: str
    away_banner: str
    refuses_banner: str
    retry_after: str


class ServicePhrases(_Words):
    """The customer-service page."""

    title: str
    disclosure: str
    absent: str
    absent_hint: str
    welcome: str
    welcome_hint: str
    input: str
    send: str
    stop: str
    example_questions: tuple[str, str, str, str, str]
    mode: str
    mode_approved: str
    mode_model: str
    person: str
    person_question: str
    clear: str
    waiting: str
    approved: str
    passages: str
    unknown: str
    written: str
    confidence: str
    sources: str
    fit: str
    show_document: str
    show_passage: str
    next_steps: str
    rephrase: str
    ask_model: str
    suggestions: str
    helpful: str
    up: str
    down: str
    thanks: str
    why: str
    reasons: dict[str, str]
    intent: str
    intent_empty: str
    intent_absent: str
    unsure: str
    sure: str
    others: str
    no_answer: str
    no_chat_model: str
    stopped: str
    nothing_written: str


class MonitorPhrases(_Words):
    """The opinion-monitor page."""

    title: str
    description: str
    absent: str
    absent_hint: str
    topics: str
    nothing_yet: str
    nothing_yet_hint: str
    bucket: str
    buckets: dict[str, str]
    months: tuple[str, ...]
    date: str
    net_sentiment: str
    net_axis: str
    volume_axis: str
    time_axis: str
    band: str
    alert: str
    num_items: str
    items: str
    items_latest: str
    items_between: str
    no_items: str
    all_items: str
    more: str
    back: str
    sentiments: dict[str, str]
    alerts: str
    open_alerts: str
    no_alerts: str
    alert_kinds: dict[str, str]
    severities: dict[str, str]
    alert_share: str
    alert_count: str
    since: str
    acknowledge: str
    acknowledged: str
    last_item: str
    replay: str
    replay_hint: str
    source: str
    source_sample: str
    source_file: str
    source_paste: str
    choose_file: str
    paste: str
    speed: str
    speeds: dict[str, str]
    start: str
    stop: str
    found: str
    nothing_found: str
    left_out: str
    progress: str
    done: str
    halted: str
    broken: str
    disclaimer: str


class RecommendPhrases(_Words):
    """The recommendation page."""

    title: str
    description: str
    absent: str
    absent_hint: str
    user: str
    num_events: str
    somebody_new: str
    diversity: str
    diversity_hint: str
    history: str
    history_empty: str
    history_unknown: str
    event_kinds: dict[str, str]
    ranking: str
    nothing_ranked: str
    score: str
    popularity_up: str
    popularity_down: str
    popularity_same: str
    like: str
    hide: str
    cold_start: str
    cold_start_hint: str
    ranker: str
    facts: str
    variety: str
    variety_before: str


class Phrases(_Words):
    """The pages' own words in one language."""

    name: str
    shell: ShellPhrases
    customer_service: ServicePhrases
    opinion_monitor: MonitorPhrases
    recommendation: RecommendPhrases


def load_phrases() -> dict[str, Phrases]:
    """The words by language code, the default language first."""
    text = (Path(__file__).parent / "assets" / "phrases.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Phrases]).validate_json(text)
