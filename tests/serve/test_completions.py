"""`/v1/completions` behind a real HTTP server, asked by the official client."""

import httpx
import openai
import pytest
from transformers import PreTrainedTokenizerFast

from .conftest import TEXTS


def test_a_text_and_its_tokens_go_on_alike(
    official: openai.OpenAI, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = tokenizer(TEXTS[1], add_special_tokens=False)["input_ids"]
    ids = [tokenizer.bos_token_id, *ids]  # as training on raw text begins
    replies = [
        official.completions.create(model="replies", prompt=prompt, max_tokens=8)
        for prompt in (TEXTS[1], ids, [TEXTS[1]], [ids])
    ]
    texts = {reply.choices[0].text for reply in replies}
    assert len(texts) == 1
    assert [reply.usage.prompt_tokens for reply in replies] == [len(ids)] * 4


def test_sixteen_tokens_are_the_default(official: openai.OpenAI) -> None:
    reply = official.completions.create(model="replies", prompt=TEXTS[1])
    assert reply.usage.completion_tokens <= 16
    assert reply.choices[0].finish_reason == (
        "length" if reply.usage.completion_tokens == 16 else "stop"
    )


def test_several_texts_are_continued_in_their_order(official: openai.OpenAI) -> None:
    alone = [
        official.completions.create(model="replies", prompt=text, max_tokens=6) for text in TEXTS
    ]
    together = official.completions.create(model="replies", prompt=list(TEXTS), max_tokens=6)
    assert [choice.text for choice in together.choices] == [one.choices[0].text for one in alone]
    assert [choice.index for choice in together.choices] == list(range(len(TEXTS)))
    assert together.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    streamed = [""] * len(TEXTS)
    *events, last = official.completions.create(
        model="replies",
        prompt=list(TEXTS),
        max_tokens=6,
        stream=True,
        stream_options={"include_usage": True},
    )
    for event in events:
        (choice,) = event.choices
        streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in together.choices]
    assert last.usage.total_tokens == together.usage.total_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_stand_beside_their_tokens(official: openai.OpenAI, stream: bool) -> None:
    options = {"model": "replies", "prompt": TEXTS[0], "max_tokens": 8, "logprobs": 2}
    if stream:
        events = list(official.completions.create(stream=True, **options))
        choices = [event.choices[0] for event in events]
    else:
        choices = official.completions.create(**options).choices
    shown = [choice.logprobs for choice in choices if choice.logprobs]
    tokens = [token for one in shown for token in one.tokens]
    values = [value for one in shown for value in one.token_logprobs]
    tops = [top for one in shown for top in one.top_logprobs]
    offsets = [offset for one in shown for offset in one.text_offset]
    assert len(tokens) == len(values) == len(tops) == len(offsets) > 0
    for token, value, top in zip(tokens, values, tops, strict=True):
        assert top[token] == value == max(top.values())
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"prompt": []}, "prompt", "at least 1"),
        ({"prompt": [[]]}, "prompt", "at least 1"),
        ({"prompt": [100_000]}, None, "outside 0 to"),
        ({"prompt": ["x"] * 33}, "prompt", "at most 32 prompts"),
        ({"prompt": "x " * 200}, "prompt", "holds 128 tokens"),
        ({"prompt": "x" * 5000}, "prompt", "5000 characters"),
        ({"prompt": list(range(6, 206))}, "prompt", "200 tokens"),
        ({"max_tokens": 49}, "max_tokens", "gives at most 48"),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
        ({"echo": True}, "echo", "'echo' is not supported"),
        ({"best_of": 2}, "best_of", "'best_of' is not supported"),
        ({"suffix": "x"}, "suffix", "'suffix' is not supported"),
        ({"messages": []}, "messages", "'messages' is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    http: httpx.Client, options: dict, param: str | None, said: str
) -> None:
    body = {"model": "replies", "prompt": TEXTS[0]} | options
    reply = http.post("/v1/completions", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert said in error["message"], error
    assert error["param"] is None if param is None else error["param"].startswith(param), error


def test_options_that_change_nothing_are_taken(http: httpx.Client) -> None:
    usual = {"n": 1, "best_of": 1, "echo": False, "suffix": None, "logit_bias": None}
    body = {"model": "replies", "prompt": TEXTS[0], "max_tokens": 2} | usual
    assert http.post("/v1/completions", json=body).status_code == 200


def test_a_classifier_cannot_continue(http: httpx.Client) -> None:
    reply = http.post("/v1/completions", json={"model": "intents", "prompt": "x"})
    assert reply.status_code == 424
    assert "/v1/completions" in reply.json()["error"]["message"]
