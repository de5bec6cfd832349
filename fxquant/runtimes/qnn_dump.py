"""read_dump: what the QNN plugin made of a file, from the graphs and the trace it writes when asked to."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxquant.runtimes.runtime import Fallback

_FLOAT_TYPES = {534: "f16", 562: "f32"}  # QNN data types of floating point
_PLUMBING = frozenset({"Quantize", "Dequantize", "Cast", "Convert"})


def dump_options(folder: Path) -> dict[str, str]:
    """Return the provider's options that make it write its graphs and its trace to a folder."""
    return {
        "dump_json_qnn_graph": "1",
        "json_qnn_graph_dir": str(folder),
        "enable_framework_op_trace": "1",
        "framework_op_trace_dir": str(folder),
    }


@dataclass(frozen=True, kw_only=True)
class FloatNode:
    """An op of a QNN graph that reads or gives floating point.

    Attributes:
        op: Its QNN op.
        nodes: The ONNX nodes it stands for.
        precision: Its floating point type in the graph.
    """

    op: str
    nodes: tuple[str, ...]
    precision: str


@dataclass(frozen=True, kw_only=True)
class QnnDump:
    """What the plugin made of a file.

    Attributes:
        graphs: Number of QNN graphs.
        ops: Number of QNN ops in them.
        floats: Those in floating point that compute: not the casts around them.
        refused: Nodes it did not take, with reasons; the trace omits some.
    """

    graphs: int
    ops: int
    floats: tuple[FloatNode, ...]
    refused: tuple[Fallback, ...]


def read_dump(folder: Path) -> QnnDump:
    """Read what ``dump_options`` made the plugin write."""
    documents = [_read(path) for path in sorted(folder.glob("*.json"))]
    graphs = [document["graph"] for document in documents if "graph" in document]
    traces = [document for document in documents if "graph" not in document]
    sources = _sources(traces)
    floats: list[FloatNode] = []
    for graph in graphs:
        types = {name: tensor.get("data_type") for name, tensor in graph["tensors"].items()}
        for name, node in graph["nodes"].items():
            used = (types.get(tensor) for tensor in (*node["input_names"], *node["output_names"]))
            precisions = [_FLOAT_TYPES[dtype] for dtype in used if dtype in _FLOAT_TYPES]
            if precisions and node["type"] not in _PLUMBING:
                nodes = tuple(sources.get(name, ()))
                floats.append(FloatNode(op=node["type"], nodes=nodes, precision=precisions[0]))
    refused = [
        Fallback(op=entry["op_type"], node=entry["node_name"], reason=entry["reason"].rstrip("."))
        for trace in traces
        for entry in trace.get("unsupported_nodes", ())
    ]
    return QnnDump(
        graphs=len(graphs),
        ops=sum(len(graph["nodes"]) for graph in graphs),
        floats=tuple(floats),
        refused=tuple(refused),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # cut off where the plugin failed on the way
        return {}
    return document


def _sources(traces: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the names of the ONNX nodes that each QNN op stands for."""
    sources: dict[str, list[str]] = {}
    for trace in traces:
        for graph in trace.get("subgraph_traces", ()):
            for mapping in graph["op_mappings"]:
                names = [source["name"] for source in mapping["sources"] if source["type"] == "OP"]
                sources.setdefault(mapping["dst_name"], []).extend(names)
    return sources
