"""Graphs: capture, text, edits and checks; torch.fx and nothing else."""

from fxquant.graph.capture import capture
from fxquant.graph.capture_notes import CaptureNotes, Resistance, capture_notes, graphs_of
from fxquant.graph.coverage import Coverage, coverage_of
from fxquant.graph.frugal_code import write_frugally
from fxquant.graph.guards import Guard
from fxquant.graph.record import Example, ModelRecord, Stage, get_record, has_record, set_record
from fxquant.graph.report import Report, Site
from fxquant.graph.text import graph_text
from fxquant.graph.verify import verify_graph

__all__ = [
    "CaptureNotes",
    "Coverage",
    "Example",
    "Guard",
    "ModelRecord",
    "Report",
    "Resistance",
    "Site",
    "Stage",
    "capture",
    "capture_notes",
    "coverage_of",
    "get_record",
    "graph_text",
    "graphs_of",
    "has_record",
    "set_record",
    "verify_graph",
    "write_frugally",
]
