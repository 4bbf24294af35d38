"""Reading and writing ONNX graphs: one file where it can be, nothing of the machine inside."""

import tempfile
from collections import Counter
from math import prod
from pathlib import Path

import onnx

from ray_sft.inference import OnnxRunner

__all__ = ["operators", "save_graph", "small_tables"]

_LARGEST_FILE = 1_900_000_000
"""Protocol buffers end at 2 GiB; larger weights go to a file beside the graph."""


def save_graph(model: onnx.ModelProto, model_dir: Path) -> None:
    """Writes ``model.onnx`` without the exporter's traces, which name files of this machine."""
    _forget_origin(model.graph)
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            _forget_node(node)
    path = model_dir / "model.onnx"
    if model.ByteSize() <= _LARGEST_FILE:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def operators(model_dir: Path) -> dict[str, int]:
    """How often each operator runs in the graph as ONNX Runtime optimises it here.

    Not what the file says: operators are fused, and a "quantized" model may turn out to compute
    in fp32.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        OnnxRunner(model_dir, num_threads=1, optimized_path=optimized)
        graph = onnx.load(optimized, load_external_data=False).graph
        return dict(Counter(node.op_type for node in graph.node).most_common())


def small_tables(model_dir: Path) -> list[str]:
    """Every look-up but that of the largest table: positions and the like, which stay in fp32."""
    graph = onnx.load(model_dir / "model.onnx", load_external_data=False).graph
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    largest = max(gathers, key=lambda node: sizes.get(node.input[0], 0), default=None)
    return [node.name for node in gathers if node is not largest]


def _forget_origin(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    graph.doc_string = ""
    for node in graph.node:
        _forget_node(node)
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        value.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""


def _forget_node(node: onnx.NodeProto) -> None:
    del node.metadata_props[:]
    node.doc_string = ""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _forget_origin(attribute.g)
