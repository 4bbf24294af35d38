"""Conversations: the chat template's text, the reply's tokens in it, and the prompt of a service.

Training and serving render with the same functions, so what a model has learned after is what it
is asked after.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Literal

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict

from ray_sft.core import DataError
from ray_sft.tasks.base import Processor, Row
from ray_sft.tasks.control_tokens import control_tokens, without_tokens

__all__ = ["Message", "encode_chat", "encode_prompt", "messages_of", "render"]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str
    weight: Literal[0, 1] = 1
    """0 leaves an assistant's turn out of what is learned or scored, as in OpenAI's format."""


def messages_of(row: Row) -> list[Message]:
    """A row's ``messages``.

    Raises:
        DataError: they are missing, empty or malformed.
    """
    turns = row.get("messages")
    if turns is None or (isinstance(turns, Sized) and len(turns) == 0):
        raise DataError("messages are missing or empty")
    if isinstance(turns, str) or not isinstance(turns, Iterable):
        raise DataError(f"messages are no list of turns but {type(turns).__name__}")
    try:
        return [Message.model_validate(_plain(turn)) for turn in turns]
    except ValueError as error:
        problem = str(error).splitlines()
        raise DataError("messages are malformed: " + " ".join(problem[1:3])) from None


def _plain(turn: Any) -> Any:
    """A turn without the empty fields that a columnar file adds to it."""
    return {k: v for k, v in turn.items() if v is not None} if isinstance(turn, Mapping) else turn


def render(
    messages: Sequence[Message], processor: Processor, *, add_generation_prompt: bool
) -> str:
    """The conversation as the text that the chat template makes of it.

    Control tokens that stand in a message's content are taken out: a user must not be able to
    end his own turn and write the assistant's.

    Raises:
        DataError: there is no template, or it refuses the conversation.
    """
    turns = _turns(messages, processor)
    return _render(turns, processor, add_generation_prompt=add_generation_prompt)


def encode_prompt(messages: Sequence[Message], processor: Processor) -> list[int]:
    """The token ids after which the assistant's reply begins; what training saw there.

    Raises:
        DataError: there is no template, or it refuses the conversation.
    """
    text = render(messages, processor, add_generation_prompt=True)
    ids: list[int] = processor(text, add_special_tokens=False)["input_ids"]
    return ids


def _turns(messages: Sequence[Message], processor: Processor) -> list[dict[str, str]]:
    control = control_tokens(processor)
    return [
        {"role": message.role, "content": without_tokens(message.content, control)}
        for message in messages
    ]


def _render(
    turns: Sequence[Mapping[str, str]], processor: Processor, *, add_generation_prompt: bool
) -> str:
    if not processor.chat_template:
        raise DataError(
            "the model's tokenizer has no chat template. Start from a chat model, or use "
            "format: text."
        )
    try:
        text: str = processor.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise DataError(f"the chat template refuses the conversation: {error}") from None
    return text


def encode_chat(messages: Sequence[Message], processor: Processor) -> tuple[list[int], list[bool]]:
    """The conversation's token ids, and which of them are targets.

    Targets are the tokens between "the assistant's turn begins" and "the assistant's turn has
    ended", its end-of-turn token included, of turns whose weight is 1.

    Raises:
        DataError: the replies cannot be told apart, or their prompts would differ in a service.
    """
    turns = _turns(messages, processor)
    text = _render(turns, processor, add_generation_prompt=False)
    spans = [
        _reply_span(turns[: index + 1], text, processor)
        for index, turn in enumerate(turns)
        if turn["role"] == "assistant" and messages[index].weight
    ]
    encoded = processor(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    _check_prompts([text[:start] for start, _ in spans], encoded["input_ids"], processor)
    # a token of white space may have an empty span at its end, where the tokenizer trims offsets
    is_target = [
        any(start <= first and start < last <= end for start, end in spans)
        for first, last in offsets
    ]
    return encoded["input_ids"], is_target


def _reply_span(
    turns: Sequence[Mapping[str, str]], text: str, processor: Processor
) -> tuple[int, int]:
    """Where the last of ``turns``, an assistant's, stands in the rendered text."""
    before = _render(turns[:-1], processor, add_generation_prompt=True)
    through = _render(turns, processor, add_generation_prompt=False)
    if not (text.startswith(through) and through.startswith(before)):
        raise DataError(
            "the chat template does not render a conversation as a prefix of its continuation, "
            "so the assistant's turns cannot be told apart. Use a template that does."
        )
    return len(before), len(through)


def _check_prompts(prompts: Sequence[str], ids: Sequence[int], processor: Processor) -> None:
    """The ids that a service will see before each reply must be those that training sees."""
    # text is cut at such tokens before anything else happens to it: nothing joins across them
    fences = tuple(
        token.content
        for token in processor.added_tokens_decoder.values()
        if not (token.rstrip or token.single_word)
    )
    open_prompts = [prompt for prompt in prompts if not prompt.endswith(fences)]
    if not open_prompts:
        return
    for prompt_ids in processor(open_prompts, add_special_tokens=False)["input_ids"]:
        if list(ids[: len(prompt_ids)]) != list(prompt_ids):
            raise DataError(
                "the beginning of a reply joins a token with what stands before it, so training "
                "would see other tokens than serving. Does the reply begin with white space?"
            )
