"""An encoder-decoder as two graphs: one reads a text, the other writes token after token.

``encoder.onnx`` turns a text into the keys and values that every layer of the decoder looks at,
which do not change while it writes. ``decoder.onnx`` takes them with the tokens to be read now and
the keys and values of those before, none for the first, so that it writes with a cache and scores
a whole translation at once.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ray_sft.compression.graph import fold_transposes, save_graph
from ray_sft.core import CompressionError
from ray_sft.inference import DECODER, ENCODER, cached_names

__all__ = ["export_seq2seq"]

_TRACED_PAST, _TRACED_TOKENS = 7, 3
"""Tracing takes an axis of length 0 or 1 for a constant."""


class _Encoder(torch.nn.Module):
    """Keys and values of a text for each layer of the decoder, (batch, heads, tokens, size)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        encoder = self.model.get_encoder()
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        cache = self.model(
            encoder_outputs=(hidden,),
            attention_mask=attention_mask,
            decoder_input_ids=torch.zeros_like(input_ids[:, :1]),  # any: they are of the text alone
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
            use_cache=True,
        ).past_key_values.cross_attention_cache
        return tuple(part for layer in cache.layers for part in (layer.keys, layer.values))


class _Decoder(torch.nn.Module):
    """Logits of the next tokens, then the keys and values of all tokens so far."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        cross: tuple[torch.Tensor, ...],
        past: tuple[torch.Tensor, ...],
    ) -> Any:
        own, of_text = DynamicCache(), DynamicCache()
        for number in range(len(past) // 2):
            own.update(past[2 * number], past[2 * number + 1], number)
            of_text.update(cross[2 * number], cross[2 * number + 1], number)
        cache = EncoderDecoderCache(own, of_text)
        for number in range(len(past) // 2):
            cache.is_updated[number] = True
        batch, _, tokens, _ = cross[0].shape
        unread = torch.zeros(batch, tokens, self.model.config.hidden_size)
        found = self.model(
            encoder_outputs=(unread,),
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        layers = found.past_key_values.self_attention_cache.layers
        return found.logits, *(part for layer in layers for part in (layer.keys, layer.values))


def export_seq2seq(
    model: Any, inputs: dict[str, torch.Tensor], model_dir: Path, *, opset: int
) -> None:
    """Writes ``encoder.onnx`` and ``decoder.onnx``, and the configurations of ``model``.

    Args:
        model: an encoder-decoder of transformers, in evaluation mode.
        inputs: ``input_ids`` and ``attention_mask`` of two texts of several tokens.
        model_dir: where to write.
        opset: of ONNX.

    Raises:
        CompressionError: the family's translations do not all begin with one token.
    """
    _check_beginning(model)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        cross = _Encoder(model)(ids, mask)
    num_layers = len(cross) // 2
    _, num_heads, _, size = cross[0].shape
    past = tuple(torch.randn(len(ids), num_heads, _TRACED_PAST, size) for _ in cross)
    first = torch.zeros(len(ids), _TRACED_TOKENS, dtype=torch.int64)
    auto = torch.export.Dim.AUTO
    plane, cached = {0: auto, 1: auto}, {0: auto, 2: auto}
    encoder = _traced(
        _Encoder(model), {"input_ids": (ids, plane), "attention_mask": (mask, plane)}, opset=opset
    )
    _rename(encoder, ["input_ids", "attention_mask"], cached_names("cross", num_layers))
    save_graph(encoder, model_dir, name=ENCODER)
    decoder = _traced(
        _Decoder(model),
        {
            "decoder_input_ids": (first, plane),
            "attention_mask": (mask, plane),
            "cross": (cross, tuple(cached for _ in cross)),
            "past": (past, tuple(cached for _ in past)),
        },
        opset=opset,
    )
    _rename(
        decoder,
        [
            *("decoder_input_ids", "attention_mask"),
            *cached_names("cross", num_layers),
            *cached_names("past", num_layers),
        ],
        ["logits", *cached_names("present", num_layers)],
    )
    save_graph(decoder, model_dir, name=DECODER)
    model.config.save_pretrained(model_dir)
    model.generation_config.save_pretrained(model_dir)


def _check_beginning(model: Any) -> None:
    labels = torch.tensor([[5, 6, 7]])
    found = model.prepare_decoder_input_ids_from_labels(labels).tolist()
    if found[0][1:] != [5, 6] or found[0][0] == 7:
        raise CompressionError(
            f"export_onnx: a {type(model).__name__} begins each translation with the token of its "
            "language, which the exported decoder would not know. Take a family that begins all "
            "alike: T5, Marian or BART."
        )


def _traced(
    module: torch.nn.Module, inputs: dict[str, tuple[Any, Any]], *, opset: int
) -> onnx.ModelProto:
    """The graph of ``module``, given by name an input to trace with and its dynamic axes."""
    with torch.no_grad():  # else layouts are kept that a graph cannot have
        program = torch.export.export(
            module.eval(),
            tuple(value for value, _ in inputs.values()),
            dynamic_shapes={name: axes for name, (_, axes) in inputs.items()},
            strict=False,
        )
        exported = torch.onnx.export(program, dynamo=True, opset_version=opset, verbose=False)
    assert exported is not None, "dynamo returns what it has exported"
    found: onnx.ModelProto = exported.model_proto
    fold_transposes(found)
    return found


def _rename(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> None:
    """Gives a graph's inputs and outputs names, in their order."""
    graph = model.graph
    names = {value.name: name for value, name in zip(graph.input, inputs, strict=True)}
    names |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
