"""`/v1/chat/completions` behind a real HTTP server, asked by the official client."""

import asyncio
import json
import re
import time

import httpx
import openai
import pytest
from transformers import PreTrainedTokenizerFast

from ray_sft.core import ServeError
from ray_sft.inference import GenerationChunk, GenerationStream
from serve.endpoints.chat import ChatFormat
from serve.endpoints.replies import Replies, reply_events
from serve.metrics import ServiceMetrics
from serve.models import Models

from .conftest import TEXTS

MESSAGES = [{"role": "user", "content": TEXTS[0]}]


def json_schema(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.9, "top_p": 0.9, "seed": 7}, {"stop": ["a", "\n"]}, {"max_tokens": 5}],
)
def test_streamed_and_whole_replies_are_the_same(official: openai.OpenAI, options: dict) -> None:
    whole = official.chat.completions.create(model="replies", messages=MESSAGES, **options)
    events = list(
        official.chat.completions.create(
            model="replies",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
    )
    *deltas, usage = events
    streamed = "".join(event.choices[0].delta.content or "" for event in deltas)
    (choice,) = whole.choices
    assert streamed == choice.message.content
    assert deltas[0].choices[0].delta.role == "assistant"
    reasons = [event.choices[0].finish_reason for event in deltas]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert reasons[-1] == choice.finish_reason
    assert usage.choices == []
    assert usage.usage.total_tokens == whole.usage.total_tokens
    assert usage.usage.completion_tokens == whole.usage.completion_tokens
    assert len({event.id for event in events}) == 1


def test_choices_are_the_replies_of_one_seed_after_the_other(official: openai.OpenAI) -> None:
    options = {"temperature": 1.0, "max_tokens": 12}
    alone = [
        official.chat.completions.create(
            model="replies", messages=MESSAGES, seed=seed, **options
        ).choices[0]
        for seed in (5, 6, 7)
    ]
    many = official.chat.completions.create(
        model="replies", messages=MESSAGES, seed=5, n=3, **options
    )
    texts = [choice.message.content for choice in many.choices]
    assert texts == [choice.message.content for choice in alone]
    assert [choice.index for choice in many.choices] == [0, 1, 2]
    streamed = ["", "", ""]
    for event in official.chat.completions.create(
        model="replies", messages=MESSAGES, seed=5, n=3, stream=True, **options
    ):
        (choice,) = event.choices
        streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_log_probabilities_are_told_with_the_tokens(official: openai.OpenAI) -> None:
    options = {"max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    whole = official.chat.completions.create(model="replies", messages=MESSAGES, **options)
    (choice,) = whole.choices
    content = choice.logprobs.content
    spelled = b"".join(bytes(token.bytes) for token in content)
    assert spelled.decode(errors="replace") == choice.message.content
    for token in content:
        best, second = token.top_logprobs
        assert (token.token, token.logprob) == (best.token, best.logprob)
        assert second.logprob <= best.logprob < 0
    events = official.chat.completions.create(
        model="replies", messages=MESSAGES, stream=True, **options
    )
    parts = [event.choices[0].logprobs for event in events]
    assert [token for part in parts if part for token in part.content] == content


def test_a_reply_fits_the_schema_that_is_asked_for(official: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["S", "M"]}},
        "required": ["ok", "size"],
        "additionalProperties": False,
    }
    for seed in range(3):
        reply = official.chat.completions.create(
            model="replies",
            messages=MESSAGES,
            temperature=1.0,
            seed=seed,
            response_format=json_schema(schema),
        )
        (choice,) = reply.choices
        assert choice.finish_reason == "stop"
        tree = json.loads(choice.message.content)
        assert isinstance(tree["ok"], bool)
        assert tree["size"] in ("S", "M")


@pytest.mark.parametrize(
    ("outputs", "expression"),
    [
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"regex": "[0-9]{4}"}, "[0-9]{4}"),
        ({"grammar": 'start: "a" start "b" | "c"'}, "a*cb*"),
        ({"json": {"const": {"a": 1}}}, r'\{"a":1\}'),
    ],
)
def test_a_reply_fits_the_structure_that_is_asked_for(
    official: openai.OpenAI, outputs: dict, expression: str
) -> None:
    reply = official.chat.completions.create(
        model="replies", messages=MESSAGES, extra_body={"structured_outputs": outputs}
    )
    assert re.fullmatch(expression, reply.choices[0].message.content)


def test_a_conversation_that_goes_on_is_not_read_again(official: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": TEXTS[2]}, *MESSAGES]
    first = official.chat.completions.create(model="replies", messages=messages, max_tokens=4)
    again = official.chat.completions.create(model="replies", messages=messages, max_tokens=4)
    assert again.choices[0].message.content == first.choices[0].message.content
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached == again.usage.prompt_tokens - 1


def test_a_whole_reply_says_where_its_time_went(http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 4})
    assert 0 <= float(reply.headers["x-queue-time"]) < 10_000
    assert 0 < float(reply.headers["x-inference-time"]) < 10_000


def test_usage_counts_the_tokens_of_prompt_and_reply(
    official: openai.OpenAI, tokenizer: PreTrainedTokenizerFast
) -> None:
    reply = official.chat.completions.create(model="replies", messages=MESSAGES, max_tokens=5)
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert reply.usage.prompt_tokens == len(
        tokenizer(prompt, add_special_tokens=False)["input_ids"]
    )
    assert 1 <= reply.usage.completion_tokens <= 5
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    if reply.choices[0].finish_reason == "length":
        assert reply.usage.completion_tokens == 5


def test_content_parts_and_the_developer_role_are_read(official: openai.OpenAI) -> None:
    plain = [{"role": "system", "content": "be brief"}, *MESSAGES]
    parts = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": part} for part in ("where is ", "my parcel")],
        },
    ]
    replies = [
        official.chat.completions.create(model="replies", messages=messages, max_tokens=8)
        for messages in (plain, parts)
    ]
    assert replies[0].choices[0].message.content == replies[1].choices[0].message.content
    assert replies[0].usage.total_tokens == replies[1].usage.total_tokens


def test_the_official_client_lists_the_models(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()] == ["intents", "replies"]


def test_the_official_client_sees_a_wrong_key(server_url: str) -> None:
    with (
        openai.OpenAI(base_url=f"{server_url}/v1", api_key="wrong-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="is wrong"),
    ):
        client.chat.completions.create(model="replies", messages=MESSAGES)


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"n": 9}, "n", "less than or equal to 8"),
        ({"tools": [{"type": "function"}]}, "tools", "'tools' is not supported"),
        ({"tool_choice": "auto"}, "tool_choice", "'tool_choice' is not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "'logit_bias' is not supported"),
        ({"top_logprobs": 2}, None, "needs logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"presence_penalty": 2.5}, "presence_penalty", "less than or equal to 2"),
        ({"repetition_penalty": 0}, "repetition_penalty", "greater than 0"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema stands"),
        ({"response_format": json_schema({"type": "nonsense"})}, None, "JSON schema cannot be"),
        ({"response_format": json_schema({"not": {}})}, None, "JSON schema cannot be used"),
        ({"structured_outputs": {"regex": "("}}, None, "regular expression cannot be used"),
        ({"structured_outputs": {}}, "structured_outputs", "give one of"),
        ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs", "give one"),
        (
            {"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "json_object"}},
            None,
            "not both",
        ),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 49}, "max_tokens", "gives at most 48"),
        ({"max_tokens": 4, "max_completion_tokens": 4}, None, "not both"),
        ({"stop": [""]}, "stop.0", "at least 1 character"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most four"),
        ({"stream_options": {"include_usage": True}}, None, "needs stream: true"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'user'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "Field required"),
        ({"messages": [{"role": "user", "content": "x " * 200}]}, "messages", "holds 128 tokens"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, "messages", "5000 characters"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    http: httpx.Client, options: dict, param: str | None, said: str
) -> None:
    body = {"model": "replies", "messages": MESSAGES} | options
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param, error
    assert said in error["message"]


def test_options_that_change_nothing_are_taken(http: httpx.Client) -> None:
    usual = {
        "n": 1,
        "logprobs": False,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "user": "somebody",
        "tools": None,
        "response_format": {"type": "text"},
        "stream": False,
    }
    body = {"model": "replies", "messages": MESSAGES, "max_tokens": 2} | usual
    assert http.post("/v1/chat/completions", json=body).status_code == 200


def test_a_classifier_cannot_chat(http: httpx.Client) -> None:
    body = {"model": "intents", "messages": MESSAGES}
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 424
    assert reply.json()["error"]["code"] == "wrong_task"


def test_the_stream_is_server_sent_events(http: httpx.Client) -> None:
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 4}
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = "".join(reply.iter_text())
    *events, end = text.removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    for event in events:
        tree = json.loads(event.removeprefix("data: "))
        assert tree["object"] == "chat.completion.chunk"
        assert tree["model"] == "replies"


def test_a_client_that_leaves_frees_its_slot(http: httpx.Client, models: Models) -> None:
    _, model = models.generator("replies", "a test")
    # more conversations than slots, so that some leave while they wait
    body = {"messages": MESSAGES, "stream": True, "temperature": 1.0}
    for seed in range(6):
        with http.stream("POST", "/v1/chat/completions", json=body | {"seed": seed}) as reply:
            next(reply.iter_raw())
    ends_at = time.monotonic() + 10
    while model.engine.num_active or model.engine.num_queued:
        assert time.monotonic() < ends_at, "a slot is still taken"
        time.sleep(0.01)


@pytest.mark.asyncio
async def test_a_stream_beyond_the_deadline_says_so_and_is_cancelled() -> None:
    stream = GenerationStream()  # to which no engine ever adds
    stream.put(GenerationChunk("first", 1, None))
    replies = Replies("replies", ChatFormat(None), 3, [stream])
    ends_at = asyncio.get_running_loop().time() + 0.05
    metrics = ServiceMetrics()
    events = [event async for event in reply_events(replies, metrics, ends_at=ends_at)]
    assert b'"content": "first"' in events[1]
    assert b'"code": "timeout"' in events[-1]
    assert stream.is_cancelled
    assert b'ray_sft_tokens_total{kind="completion",model="replies"} 1.0' in metrics.render()


@pytest.mark.asyncio
async def test_a_failure_within_a_stream_is_an_event_without_the_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = GenerationStream()
    stream.put(GenerationChunk("first", 1, None))
    stream.close(ServeError("secret detail"))
    replies = Replies("replies", ChatFormat(None), 3, [stream])
    events = [event async for event in reply_events(replies, ServiceMetrics(), ends_at=None)]
    assert b'"code": "generation_failed"' in events[-1]
    assert b"secret" not in b"".join(events)
    assert "secret detail" in caplog.text
