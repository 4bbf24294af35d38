"""Answers are word for word from the knowledge."""

from serve.assistant.answer import Found, compose, judge, quote, suggest
from serve.assistant.args import AssistantArgs
from serve.assistant.search import Hit

ARGS = AssistantArgs(embedding_model="any")
PASSAGE = (
    "Our shops are open all week. They have parking. Bring the phone and its box. "
    "A swollen battery is recycled there free of charge. Old cables are taken too. Thank you."
)


def hit(key: str, text: str, similarity: float | None, *, title: str = "Title") -> Hit:
    return Hit(key, key, "document", "en", title, text, 7, 7 + len(text), key, similarity)


def test_a_quotation_is_verbatim_and_holds_the_questions_words() -> None:
    said = quote("Where is a swollen battery recycled?", PASSAGE)
    assert said in PASSAGE
    assert "swollen battery is recycled" in said
    assert said.count(".") == 3
    assert quote("unrelated words", PASSAGE) == PASSAGE[: PASSAGE.index(" A swollen")]
    assert quote("battery", "One sentence without an end") == "One sentence without an end"
    assert quote("查询订单", "第一句。第二句。请查询订单物流。第四句。第五句。") == (
        "第一句。第二句。请查询订单物流。"
    )


def test_passages_are_cited_in_their_order_with_their_places() -> None:
    passages = [
        hit("weak", "Too weak to be cited.", 0.44),
        hit("one", PASSAGE, 0.7),
        hit("two", "A battery likes a cool place.", 0.9),
    ]
    found = Found("Where is a swollen battery recycled?", "en", [], passages)
    answer = compose(found, judge(found, ARGS), ARGS)
    assert answer.kind == "passages"
    assert answer.answer == quote(found.question, PASSAGE) + " [1]"
    assert [(c.number, c.document_id, c.start, c.end) for c in answer.citations] == [
        (1, "one", 7, 7 + len(PASSAGE)),
        (2, "two", 7, 36),
    ]
    assert answer.citations[0].text == PASSAGE
    assert [citation.score for citation in answer.citations] == [0.7, 0.9]
    assert answer.confidence == 0.9


def test_an_approved_answer_is_given_word_for_word() -> None:
    questions = [
        hit("track", "Where is my parcel?", 0.95),
        hit("refund", "Where is my refund?", 0.8),
    ]
    found = Found("Where's my parcel", "en", questions, [])
    answer = compose(found, judge(found, ARGS), ARGS, approved_text="Tap\n\n*Track*.")
    assert (answer.kind, answer.answer, answer.confidence) == ("approved", "Tap\n\n*Track*.", 0.95)
    assert [c.text for c in answer.citations] == ["Tap\n\n*Track*."]
    assert answer.suggestions == ["Where is my refund?"]


def test_an_unknown_answer_cites_nothing_and_is_in_the_questions_language() -> None:
    for language, said in (("en", ARGS.unknown_answer_en), ("zh", ARGS.unknown_answer_zh)):
        found = Found("quokkas", language, [], [hit("one", PASSAGE, 0.3)])
        answer = compose(found, judge(found, ARGS), ARGS)
        assert (answer.kind, answer.answer, answer.citations) == ("unknown", said, [])
        assert answer.confidence == 0.3


def test_suggestions_are_distinct_answers_similar_enough() -> None:
    questions = [
        hit("a", "first of a", 0.64),
        hit("b", "first of b", 0.58),
        Hit("a2", "a", "approved", "en", "", "second of a", 0, 1, "a", 0.63),
        hit("c", "first of c", 0.55),
        hit("d", "first of d", 0.52),
        hit("e", "far away", 0.2),
    ]
    found = Found("question", "en", questions, [])
    judgement = judge(found, ARGS)
    assert suggest(found, judgement, floor=0.5) == ["first of a", "first of b", "first of c"]
    assert suggest(found, judgement, floor=0.61) == ["first of a"]


def test_without_vectors_words_decide_by_their_own_thresholds() -> None:
    questions = [hit("track", "怎么查询订单物流？", None), hit("cancel", "怎么取消订单？", None)]
    found = Found("怎么查询订单的物流", "zh", questions, [])
    judgement = judge(found, ARGS)
    # 怎么 么查 查询 询订 订单 物流 of 8 and of 7 pairs
    assert judgement.similarities[0] == 2 * 6 / (8 + 7)
    assert judgement.decision.kind == "approved"
    strict = ARGS.lexical.model_copy(update={"approved_similarity": 0.81})
    assert judge(found, ARGS.model_copy(update={"lexical": strict})).decision.kind == "unknown"
