import numpy as np
import pytest

from ray_sft.inference.generation.text_stream import TextStream

WILD = "naïve café — 转账还没有到账 \U0001f600\U0001f468‍\U0001f469‍\U0001f467 e\u0301 done"


def feed(stream: TextStream, tokens) -> list[str]:
    pieces = []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.finish()]


def test_pieces_join_to_the_whole_and_hold_no_half_characters(processor):
    tokens = processor(WILD, add_special_tokens=False)["input_ids"]
    assert len(tokens) > len(WILD)  # characters are spread over tokens
    pieces = feed(TextStream(processor), tokens)
    assert "".join(pieces) == WILD
    assert not any("\ufffd" in piece for piece in pieces)
    assert sum(bool(piece) for piece in pieces) > len(WILD) // 2  # it does stream


@pytest.mark.parametrize("seed", range(20))
def test_any_tokens_stream_to_what_they_decode_to(processor, seed):
    tokens = np.random.default_rng(seed).integers(0, len(processor), size=60).tolist()
    expected = processor.decode(tokens, skip_special_tokens=True)
    assert "".join(feed(TextStream(processor), tokens)) == expected


def test_special_tokens_are_not_shown(processor):
    tokens = [processor.bos_token_id, *processor("hello")["input_ids"], processor.eos_token_id]
    assert "".join(feed(TextStream(processor), tokens)) == "hello"


def test_an_unfinished_character_shows_only_at_the_end(processor):
    tokens = processor("a\U0001f600", add_special_tokens=False)["input_ids"][:-1]
    stream = TextStream(processor)
    assert "".join(stream.push(token) for token in tokens) == "a"
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ((" due",), "Where is my parcel? It was"),
        (("12 May", "parcel"), "Where is my "),
        (("Where",), ""),
        (("never said",), "Where is my parcel? It was due on Monday 12 May."),
        ((".",), "Where is my parcel? It was due on Monday 12 May"),
        (("parcel! ", "parcel? Is"), "Where is my parcel? It was due on Monday 12 May."),
    ],
)
def test_nothing_is_shown_from_a_stop_string_on(processor, texts, stop, expected):
    tokens = processor(texts[0], add_special_tokens=False)["input_ids"]
    stream = TextStream(processor, stop=stop)
    shown = ""
    for piece in feed(stream, tokens):
        shown += piece
        assert expected.startswith(shown)
    assert shown == expected
    assert stream.stopped == any(item in texts[0] for item in stop)


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_none(processor):
    tokens = processor("abcX", add_special_tokens=False)["input_ids"]
    stream = TextStream(processor, stop=("bcd",))
    assert [stream.push(token) for token in tokens[:-1]][-1] in ("", "a")
    assert stream.push(tokens[-1]).endswith("bcX")
