"""Both clients against the service's own application with tiny models, over HTTP."""

import math

import pytest

from apps.client import Message, RetryPolicy, ServiceError
from ray_sft.inference import Predictor
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.models import load_models
from tests.apps.serving import free_port, serving
from tests.compression.conftest import write_bundle
from tests.factories import TEXTS, tiny_processor, tiny_translator, translation
from tests.serve.conftest import (
    TOKEN,
    classifier_bundle,
    generator_bundle,
    keys,
    metrics,
    tokenizer,
    torch_generator_bundle,
)
from tests.serve.test_entities import tagger_bundle
from tests.serve.test_heads import market_bundle

__all__ = [
    "classifier_bundle",
    "generator_bundle",
    "keys",
    "market_bundle",
    "metrics",
    "tagger_bundle",
    "tokenizer",
    "torch_generator_bundle",
]

ASKED = list(TEXTS[:3])
HELLO = [Message("user", "where is my parcel")]
QUICK = RetryPolicy(first_wait_s=0.01)


@pytest.fixture(scope="module")
def translator_bundle(tmp_path_factory):
    pairs = translation()
    return write_bundle(
        tmp_path_factory.mktemp("translator") / "trained",
        name="pairs",
        task=pairs.task,
        model=tiny_translator(),
        processor=tiny_processor(),
        rows=pairs.rows,
    )


@pytest.fixture(scope="module")
def bundles(classifier_bundle, generator_bundle, market_bundle, tagger_bundle, translator_bundle):
    return {
        "intents": classifier_bundle,
        "replies": generator_bundle,
        "market": market_bundle,
        "names": tagger_bundle,
        "pairs": translator_bundle,
    }


@pytest.fixture(scope="module")
def url(bundles, keys, metrics):
    args = ServiceArgs(
        bundles={name: str(bundle.path) for name, bundle in bundles.items()},
        num_cpus=1,
        max_inputs=8,
        max_tokens=48,
        num_slots=2,
    )
    models = load_models(args, num_threads=1, metrics=metrics)
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    port = free_port()
    with serving(app, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def ask(flavour, url):
    def run(call, **options):
        return flavour.ask(url, call, **{"api_key": TOKEN, "retry": QUICK} | options)[0]

    return run


def rows(texts):
    return [{"text": text} for text in texts]


def test_the_service_is_ready_and_names_its_models(ask):
    assert ask(lambda client: client.check_ready()) is None
    found = {model.id: model.task for model in ask(lambda client: client.models())}
    assert found["intents"] == "sequence_classification"
    assert found["market/click"] == "ranking"
    assert found["replies"] == "causal_language_model"


def test_classifications_are_those_of_the_bundle(ask, bundles):
    expected = Predictor(bundles["intents"]).predict(rows(ASKED))
    found = ask(lambda client: client.classify_many(ASKED, model="intents", top_k=2))
    for one, answer in zip(found, expected, strict=True):
        assert one.label == answer.label
        assert one.score == pytest.approx(answer.score, abs=1e-5)
        assert len(one.scores) == 2
    lone = ask(lambda client: client.classify(ASKED[0], model="intents"))
    assert lone.label == found[0].label
    assert lone.labels == [lone.label]


def test_several_labels(ask, bundles):
    (answer,) = Predictor.each(bundles["market"])["moods"].predict(rows(ASKED[:1]))
    found = ask(lambda client: client.classify(ASKED[0], model="market/moods"))
    assert found.labels == answer.labels
    assert found.label == answer.scores[0].label


def test_entities_are_those_of_the_bundle(ask, bundles):
    expected = Predictor(bundles["names"]).predict(rows(ASKED))
    found = ask(lambda client: client.entities_many(ASKED))
    assert sum(len(entities) for entities in found) > 0
    for text, entities, answer in zip(ASKED, found, expected, strict=True):
        assert [(one.label, one.start, one.end) for one in entities] == [
            (one.label, one.start, one.end) for one in answer.entities
        ]
        assert all(one.text == text[one.start : one.end] for one in entities)
    lone = ask(lambda client: client.entities(ASKED[0]))
    assert [(one.start, one.text) for one in lone] == [(one.start, one.text) for one in found[0]]


def test_embeddings_are_those_of_the_bundle(ask, bundles):
    expected = Predictor.each(bundles["market"])["vector"].predict(rows(ASKED))
    found = ask(lambda client: client.embeddings(ASKED))
    for vector, answer in zip(found, expected, strict=True):
        assert vector == pytest.approx(answer.embedding, abs=1e-5)
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)


def test_scores_and_the_order_by_them(ask):
    scores = ask(lambda client: client.score(ASKED, history=[TEXTS[0]]))
    assert all(0.0 <= score <= 1.0 for score in scores)
    best = ask(lambda client: client.rerank(TEXTS[0], ASKED, top_n=2))
    assert len(best) == 2
    assert best[0].relevance_score == pytest.approx(max(scores), abs=1e-5)
    assert scores[best[0].index] == pytest.approx(max(scores), abs=1e-5)


def test_translations(ask):
    found = ask(lambda client: client.translate_many(ASKED))
    assert len(found) == 3
    lone = ask(lambda client: client.translate(ASKED[0]))
    assert (lone.text, lone.finish_reason) == (found[0].text, found[0].finish_reason)


def test_tokens_and_back(ask):
    model = "pairs"  # its tokenizer ends a text with a token of its own
    found = ask(lambda client: client.tokenize(ASKED[0], model=model))
    assert found.count == len(found.ids) == len(found.tokens)
    assert found.offsets is not None
    bare = ask(lambda client: client.tokenize_many(ASKED, model=model, add_special_tokens=False))
    assert len(bare) == 3
    assert 0 < bare[0].count < found.count
    text = ask(lambda client: client.detokenize(bare[0].ids, model=model))
    assert text == ASKED[0]


def test_a_chat_whole_and_in_pieces_says_the_same(ask, flavour, url):
    whole = ask(lambda client: client.chat(HELLO, max_tokens=12))
    assert whole.model == "replies"
    assert whole.finish_reason in ("stop", "length")
    assert 0 < whole.usage.completion_tokens <= 12
    pieces = []
    flavour.collect(
        url, lambda client: client.stream_chat(HELLO, max_tokens=12), pieces, api_key=TOKEN
    )
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [whole.finish_reason]
    assert pieces[-1].usage == whole.usage


def test_a_completion_whole_and_in_pieces_says_the_same(ask, flavour, url):
    whole = ask(lambda client: client.completions("where is", max_tokens=8, temperature=0.0))
    assert 0 < whole.usage.completion_tokens <= 8
    pieces = []
    flavour.collect(
        url,
        lambda client: client.stream_completions("where is", max_tokens=8),
        pieces,
        api_key=TOKEN,
    )
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].usage == whole.usage


def test_options_are_honoured_and_unknown_values_told(ask):
    draws = {
        ask(lambda client, seed=seed: client.chat(HELLO, temperature=2.0, seed=seed)).text
        for seed in range(3)
    }
    assert len(draws) > 1
    with pytest.raises(ServiceError) as caught:
        ask(lambda client: client.chat(HELLO, temperature=9.0))
    assert (caught.value.status, caught.value.code) == (400, "invalid_value")
    assert "temperature" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda client: client.classify("x", model="none"), 404, "model_not_found"),
        (lambda client: client.classify("x", model="replies"), 424, "wrong_task"),
        (lambda client: client.classify_many([]), 400, "invalid_value"),
        (lambda client: client.embeddings(["x"] * 9), 400, "too_many_inputs"),
        (lambda client: client.classify("x" * 9000, model="intents"), 400, "text_too_long"),
    ],
)
def test_what_the_service_refuses_is_told_in_its_words(ask, call, status, code):
    with pytest.raises(ServiceError) as caught:
        ask(call)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert len(caught.value.request_id) == 32


@pytest.mark.parametrize(("key", "code"), [("", "missing_api_key"), ("wrong", "invalid_api_key")])
def test_without_a_good_key_nothing_is_answered(ask, key, code):
    with pytest.raises(ServiceError) as caught:
        ask(lambda client: client.models(), api_key=key)
    assert (caught.value.status, caught.value.code) == (401, code)
