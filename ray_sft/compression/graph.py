"""Reading and writing ONNX graphs: one file where it can be, nothing of the machine inside."""

import tempfile
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ray_sft.inference import decoder_device, open_session
from ray_sft.inference.runners import Device

__all__ = [
    "drop_unread",
    "fold_transposes",
    "graph_names",
    "operators",
    "products",
    "save_graph",
    "small_tables",
]

_LARGEST_FILE = 1_900_000_000
"""Protocol buffers end at 2 GiB; larger weights go to a file beside the graph."""


def save_graph(model: onnx.ModelProto, model_dir: Path, *, name: str = "model.onnx") -> None:
    """Writes a graph without the exporter's traces, which name files of this machine."""
    _forget_origin(model.graph)
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            _forget_node(node)
    path = model_dir / name
    # a larger one cannot tell its own size
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= _LARGEST_FILE:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def operators(model_dir: Path) -> dict[str, int]:
    """How often each operator runs in the graph as ONNX Runtime optimises it here.

    Not what the file says: operators are fused, and a "quantized" model may turn out to compute
    in fp32.
    """
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in graph_names(model_dir):
            path = Path(folder) / name
            open_session(
                model_dir,
                num_threads=1,
                spinning=False,
                name=name,
                optimized_path=path,
                device=_device(model_dir),
            )
            graph = onnx.load(path, load_external_data=False).graph
            counts.update(node.op_type for node in graph.node)
    return dict(counts.most_common())


def _device(model_dir: Path) -> Device:
    return decoder_device(model_dir) if (model_dir / "genai_config.json").is_file() else "cpu"


def graph_names(model_dir: Path) -> list[str]:
    """The files of a model's graphs: one, or two of an encoder-decoder."""
    return sorted(path.name for path in model_dir.glob("*.onnx"))


def fold_transposes(model: onnx.ModelProto) -> None:
    """Turns weights that the graph transposes each time it runs, in place.

    The exporter leaves large ones that are read elsewhere, too, such as embeddings that are also
    the weights of the last product, which then could not be quantized.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    folded = [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]
    for node in folded:
        axes = next((list(one.ints) for one in node.attribute if one.name == "perm"), None)
        turned = numpy_helper.to_array(weights[node.input[0]]).transpose(axes)
        tensor = numpy_helper.from_array(np.ascontiguousarray(turned), node.output[0])
        graph.initializer.append(tensor)
        graph.node.remove(node)
    drop_unread(graph)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Takes out the weights that no node reads any more."""
    read = {name for node in graph.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(tensor)


def products(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """The products with constant weights, which are those that can be rounded, in their order."""
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    return [
        (node, weights[node.input[1]])
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    ]


def small_tables(model_dir: Path, *, name: str = "model.onnx") -> list[str]:
    """Every look-up but that of the largest table: positions and the like, which stay in fp32."""
    graph = onnx.load(model_dir / name, load_external_data=False).graph
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
