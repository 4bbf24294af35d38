"""Texts in other words of a chat model, behind a real address and from a bundle."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_sft.bundle import BundleWriter, Manifest
from ray_sft.core import ConfigError, DataError
from ray_sft.data.augment import Draws, Paraphrase
from ray_sft.data.augment.ledger import Ledger
from ray_sft.tasks import SequenceClassification
from tests.chat_endpoint import serving_chat

TEXTS = ["where is the parcel that I bought", "please close my old account today"]
MILLION = 1_000_000


@pytest.fixture
def endpoint():
    with serving_chat() as found:
        yield found


@pytest.fixture
def paraphrase(endpoint, tmp_path):
    def make(**options) -> Paraphrase:
        defaults = {"model": "chat", "endpoint": endpoint.url, "cache": str(tmp_path / "kept.db")}
        return Paraphrase.model_validate(defaults | options)

    return make


def said(operation, texts=TEXTS, seed=0):
    rngs = [Draws(seed, number) for number in range(len(texts))]
    rows = [{"text": text} for text in texts]
    return [row["text"] for row in operation.change_rows(rows, rngs)]


def test_an_answer_is_asked_for_once(paraphrase, endpoint):
    first = said(paraphrase())
    assert [sorted(text.split()) for text in first] == [sorted(text.split()) for text in TEXTS]
    assert first != TEXTS
    assert len(endpoint.seen) == 2
    body = endpoint.seen[0]
    assert body["model"] == "chat"
    assert body["max_tokens"] == 256
    assert said(paraphrase(concurrency=2)) == first  # how it is asked for is no other answer
    assert len(endpoint.seen) == 2
    said(paraphrase(), seed=1)
    said(paraphrase(temperature=0.1))
    assert len(endpoint.seen) == 6


def test_an_endpoint_that_fails_or_is_busy_is_asked_again(paraphrase, endpoint):
    endpoint.failures = [(500, {}), (429, {"retry-after": "0.1"}), (503, {})]
    assert said(paraphrase(concurrency=1), TEXTS[:1]) != TEXTS[:1]
    assert len(endpoint.seen) == 4


def test_an_endpoint_that_keeps_failing_says_so_and_what_is_known_stays(paraphrase, endpoint):
    first = said(paraphrase(), TEXTS[:1])
    endpoint.failures = [(500, {})] * 3
    with pytest.raises(DataError, match=r"paraphrase\.endpoint 'http.*gave no answer.*not now"):
        said(paraphrase(retries=1, concurrency=1))
    endpoint.failures = []
    assert said(paraphrase())[0] == first[0]


def test_a_wrong_key_is_refused_at_once_and_never_shown(paraphrase, endpoint, monkeypatch):
    endpoint.key = "right"
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-secret")
    with pytest.raises(DataError, match="401") as caught:
        said(paraphrase(), TEXTS[:1])
    assert "wrong-secret" not in str(caught.value)
    assert len(endpoint.seen) == 1
    monkeypatch.setenv("MY_KEY", "right")
    assert said(paraphrase(key_variable="MY_KEY"), TEXTS[:1]) != TEXTS[:1]


@pytest.mark.parametrize("change", [{"finish_reason": "length"}, {"forgets": "@bob"}])
def test_an_answer_of_no_use_leaves_the_text(paraphrase, endpoint, change):
    for name, value in change.items():
        setattr(endpoint, name, value)
    text = "please tell @bob where it is"
    assert said(paraphrase(), [text]) == [text]


def test_quotes_around_an_answer_are_taken_off(paraphrase, endpoint):
    plain = said(paraphrase(), TEXTS)
    endpoint.quotes = '""'
    assert said(paraphrase(temperature=0.8), TEXTS) == plain


def test_what_it_costs_stays_below_the_cap(paraphrase, endpoint):
    """A request that could exceed it is not sent, and what was paid for is kept."""
    most = len(f"{paraphrase().instruction}\n\n{TEXTS[0]}".encode()) + 64 + 256
    prices = {"input_price": MILLION, "output_price": MILLION, "concurrency": 1}
    with pytest.raises(DataError, match=r"max_cost is .*0 of it is spent.*Raise max_cost"):
        said(paraphrase(max_cost=most - 1, **prices), TEXTS[:1])
    assert not endpoint.seen
    first = said(paraphrase(max_cost=most, **prices), TEXTS[:1])
    assert len(endpoint.seen) == 1
    with pytest.raises(DataError, match="answers so far are kept"):
        said(paraphrase(max_cost=most, **prices), TEXTS)
    assert said(paraphrase(max_cost=most, **prices), TEXTS[:1]) == first
    assert len(endpoint.seen) == 1


def test_many_who_ask_at_once_stay_below_the_cap(tmp_path):
    """Each could cost 1 and does cost 0.5; of 20 there is room for 10 at most."""
    ledgers = [Ledger(tmp_path / "kept.db", 5.0) for _ in range(4)]
    together = threading.Barrier(4)
    highest: list[float] = []

    def ask(number: int) -> int:
        together.wait()
        paid = 0
        for turn in range(5):
            try:
                assert ledgers[number].find(f"{number}-{turn}", 1.0) is None
            except DataError:
                continue
            ledgers[number].keep(f"{number}-{turn}", "yes", 0.5)
            paid += 1
        highest.append(paid * 0.5)
        return paid

    with ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(ask, range(4)))
    assert 5 <= total <= 9  # the last of them needs a whole 1 to be left
    assert sum(highest) <= 5.0


def test_a_request_that_costs_nothing_is_taken_back(tmp_path):
    ledger = Ledger(tmp_path / "kept.db", 1.0)
    assert ledger.find("a", 1.0) is None
    with pytest.raises(DataError, match="max_cost"):
        ledger.find("b", 1.0)
    ledger.give_up("a")
    assert ledger.find("b", 1.0) is None
    assert ledger.find("b", 1.0) is None  # the same request once more, after its worker died


def test_a_cache_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"paraphrase\.cache .* cannot be used"):
        Ledger(tmp_path / "file" / "kept.db", 1.0)


def test_what_is_missing_is_said_before_work(paraphrase, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    far = {"endpoint": "https://models.example.com/v1"}
    with pytest.raises(ConfigError, match=r"needs a key for 'https.*OPENAI_API_KEY"):
        paraphrase(**far, input_price=1, output_price=2).check()
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(ConfigError, match="input_price and output_price"):
        paraphrase(**far).check()
    paraphrase(**far, input_price=0, output_price=0).check()
    paraphrase().check()
    with pytest.raises(ValueError, match="no address of http"):
        paraphrase(endpoint="localhost:8000")
    with BundleWriter(tmp_path / "intents") as out:
        (out.model_dir / "config.json").write_text("{}")
        (out.processor_dir / "tokenizer.json").write_text("{}")
        out.write_samples([{"request": {}, "response": {}}])
        tasks = {"intent": SequenceClassification(labels=("a", "b"))}
        out.finish(Manifest(name="x", variant="y", format="torch", tasks=tasks))
    with pytest.raises(ConfigError, match=r"ONNX format.*is sequence_classification in torch"):
        Paraphrase(model=str(tmp_path / "intents")).check()
