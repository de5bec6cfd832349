"""Graphs: capture, text, edits and checks; torch.fx and nothing else."""

from fxquant.graph.capture import capture
from fxquant.graph.record import Example, ModelRecord, Stage, get_record, has_record, set_record
from fxquant.graph.report import Report, Site
from fxquant.graph.text import graph_text
from fxquant.graph.verify import verify_graph

__all__ = [
    "Example",
    "ModelRecord",
    "Report",
    "Site",
    "Stage",
    "capture",
    "get_record",
    "graph_text",
    "has_record",
    "set_record",
    "verify_graph",
]
