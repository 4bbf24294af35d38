"""What the pages write as HTML: nothing from outside is obeyed, and both languages say it all."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from apps.conversation import Exchange
from apps.desk import Desk
from apps.phrases import load_phrases
from apps.replies.assistant import Answer, Citation, Document
from apps.replies.monitor import Alert, Item, Topic
from apps.replies.recommend import PastEvent, Ranking
from apps.replies.texts import Classification
from apps.views.citations import referring_text, source_list
from apps.views.conversation import conversation_log
from apps.views.intent import intent_card
from apps.views.opinions import alert_list, figures, item_list, items_heading, topic_list
from apps.views.ranking import history_list, ranking_facts, ranking_list

EVIL = "\"'><img src=x onerror=alert(1)><script>x</script>"
TIME = "2025-03-03T10:00:00Z"
PHRASES = load_phrases()
ASSETS = Path(__file__).parents[2] / "apps" / "assets"


class Tags(HTMLParser):
    """Collects the tags and the names of attributes."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def handle_starttag(self, tag, attrs):
        self.names |= {tag} | {name for name, _ in attrs}


def evil_conversation(words):
    citation = {"number": 1, "document_id": EVIL, "title": EVIL, "text": EVIL, "score": 0.5}
    reply = Answer.model_validate(
        {
            "id": EVIL,
            "kind": "unknown",
            "answer": EVIL,
            "citations": [citation],
            "suggestions": [EVIL],
        }
    )
    exchange = Exchange(
        EVIL,
        answer=f"{EVIL} [1]",
        note=EVIL,
        problem=EVIL,
        reply=reply,
        documents=(Document(id=EVIL, text=f"{EVIL} {EVIL}"),),
        verdict="down",
        remark=EVIL,
    )
    return conversation_log([exchange], words.customer_service, can_write=True)


def evil_monitor(words):
    told = words.opinion_monitor
    topic = Topic(topic=EVIL, num_items=1, net_sentiment=0.1, last_time=TIME)
    item = {"id": EVIL, "time": TIME, "text": EVIL, "source": EVIL, "topics": [EVIL]}
    seen = Item.model_validate(item | {"polarity": EVIL, "sentiment": {EVIL: 1.0}})
    alert = Alert.model_validate(
        {"id": EVIL, "topic": EVIL, "start": TIME, "kind": EVIL, "severity": EVIL}
    )
    return "".join(
        [
            topic_list([topic], [alert], told, chosen=EVIL),
            figures(topic, [alert], told),
            items_heading(Desk(topic=EVIL), told),
            item_list([seen], told),
            alert_list([alert], told),
        ]
    )


def evil_ranking(words):
    told = words.recommendation
    item = {"id": EVIL, "title": EVIL, "category": EVIL, "score": 1, "rank": 1}
    reasons = {"reasons": [{"kind": EVIL, "text": EVIL}]}
    ranking = Ranking.model_validate(
        {"ranking_id": EVIL, "ranker": EVIL, "items": [item | reasons]}
    )
    events = [PastEvent(item=EVIL, title=EVIL, kind=EVIL)]
    return "".join(
        [
            ranking_list(ranking, told),
            ranking_facts(ranking, told),
            history_list(events, told, is_whole=False),
        ]
    )


def evil_intent(words):
    scores = [{"label": EVIL, "score": 0.4}, {"label": EVIL + "2", "score": 0.3}]
    found = Classification.model_validate(scores[0] | {"scores": scores})
    return intent_card(found, words.customer_service)


@pytest.mark.parametrize("view", [evil_conversation, evil_monitor, evil_ranking, evil_intent])
@pytest.mark.parametrize("language", PHRASES)
def test_no_word_from_outside_becomes_a_tag_or_an_attribute(view, language):
    drawn = view(PHRASES[language])
    tags = Tags()
    tags.feed(drawn)
    assert not tags.names & {"img", "script", "onerror", "src"}
    assert "onerror=alert" in drawn  # it is there to be read


def test_only_numbers_with_a_source_can_be_pressed():
    citation = Citation(number=1, document_id="d", text="t", score=1.0)
    drawn = referring_text("One [1], two [2], <3>, [x].", [citation], prefix="p")
    assert drawn.count("<button") == 1
    assert 'data-open="p-1">1</button>' in drawn
    assert "two [2], &lt;3&gt;, [x]." in drawn


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (4, 7, "one <mark>two</mark> three two"),
        (14, 17, "one two three <mark>two</mark>"),
        (0, 2, "one <mark>two</mark> three two"),  # it does not fit, so the text is looked for
    ],
)
def test_a_passage_is_marked_in_its_document(start, end, expected):
    citation = Citation(number=1, document_id="d", text="two", start=start, end=end, score=1.0)
    document = Document(id="d", text="one two three two")
    words = PHRASES["en"].customer_service
    drawn = source_list([citation], [document], words, prefix="p", index=0)
    assert expected in drawn


def test_both_languages_have_the_same_places_to_fill_in():
    def places(tree):
        if isinstance(tree, dict):
            return {name: places(value) for name, value in tree.items()}
        if isinstance(tree, list):
            return [places(value) for value in tree]
        return sorted(re.findall(r"{\w+}", tree))

    languages = json.loads((ASSETS / "phrases.json").read_text(encoding="utf-8"))
    assert places(languages["en"]) == places(languages["zh"])
