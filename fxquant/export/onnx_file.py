"""to_onnx: a quantized model as an ONNX model with QuantizeLinear and DequantizeLinear."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import IdentityEliminationPass
from onnxscript.optimizer import optimize_ir
from torch import fx
from torch.utils import _pytree as pytree

from fxquant.errors import ExportError, OptionError, first_line
from fxquant.export.direct import DIRECT, as_it_is, needs_no_decomposition
from fxquant.export.flat_inputs import flatten_inputs, with_distinct_tensors
from fxquant.export.fuse_linears import fuse_linears
from fxquant.export.graph_edits import (
    fuse_global_pools,
    remove_unused_constants,
    reshape_whole_gathers,
    strip,
    write_trivial_softmax,
)
from fxquant.export.lower import lower
from fxquant.export.lower_floats import LOWEST_OPSET, lower_floats
from fxquant.export.names import make_names_unique, name_inputs, name_nodes
from fxquant.export.operators import translations
from fxquant.export.sites import Site
from fxquant.export.split_gemms import split_gemms
from fxquant.export.write_quantizers import remove_quantizers, write_quantizers
from fxquant.graph import Example, ModelRecord
from fxquant.graph.fresh import rows_of
from fxquant.graph.structure import named_tensors
from fxquant.targets import get_target

log = logging.getLogger(__name__)

PRODUCER = "fxquant"

Inputs = dict[str, Any]  # the value of each input of a graph, in order


def to_onnx(
    gm: fx.GraphModule,
    example: Example,
    record: ModelRecord,
    *,
    opset: int | None = None,
    has_quantizers: bool = True,
    float_type: torch.dtype = torch.float32,
    keeps_io: bool = True,
) -> ir.Model:
    """Return the ONNX model of a quantized model, its batch dimension dynamic where it and the target can.

    Args:
        gm: The quantized model.
        example: A call to trace.
        record: What it was made for.
        opset: Opset of the model; None for the lowest that says it all.
        has_quantizers: Whether it has QuantizeLinear and DequantizeLinear, or is the float model.
        float_type: Type of what is not quantized: torch.float32 or torch.float16.
        keeps_io: Whether inputs and outputs stay float32 in any case.

    Raises:
        OptionError: If there is no such float type.
        ExportError: If torch.onnx cannot export the graph, or the opset cannot say it.
    """
    if float_type not in (torch.float32, torch.float16):
        raise OptionError(f"Floats are written as torch.float32 or torch.float16, not {float_type}.")
    is_half = float_type is torch.float16
    wide = [t.dtype for t in example.tensors() if t.is_floating_point() and t.dtype is not torch.float32]
    if wide:
        raise ExportError(
            f"Quantized ONNX is float32 around its integers, not {wide[0]}.", remedy="Export model.float()."
        )
    lowered, sites = lower(gm)
    form = get_target(record.target).file
    lowest = max(form.opset, LOWEST_OPSET) if is_half else form.opset
    opset = _opset(opset, lowest, sites if has_quantizers else [])
    if is_half and opset < LOWEST_OPSET:
        raise ExportError(
            f"Opset {opset} has no quantizers in float16.", remedy=f"Take opset {LOWEST_OPSET} or later."
        )
    inputs = flatten_inputs(lowered, with_distinct_tensors(_inputs(lowered, example), set()))
    model = None if form.is_static else _trace_dynamic(lowered, inputs, opset)
    if model is None:
        model = _trace_static(lowered, inputs, opset)
    fuse_global_pools(model)
    write_trivial_softmax(model)
    reshape_whole_gathers(model)
    name_inputs(model, list(named_tensors(inputs)))
    if not has_quantizers:
        remove_quantizers(model, sites)
    else:
        split_gemms(model, sites)
        write_quantizers(model, sites, gathers_codes=form.gathers_codes)
        if form.has_gemm:
            fuse_linears(model)
    if is_half:
        lower_floats(model, keeps_io=keeps_io)
    remove_unused_constants(model)
    make_names_unique(model)
    name_nodes(model)
    strip(model)
    model.producer_name, model.producer_version = PRODUCER, version(PRODUCER)
    model.metadata_props.clear()
    model.metadata_props.update({"fxquant.target": record.target, "fxquant.pipeline": record.pipeline})
    return model


def _opset(chosen: int | None, lowest: int, sites: list[Site]) -> int:
    """Return the opset to write, and check that it says what every site does."""
    needed = max(sites, key=lambda site: site.opset, default=None)
    if chosen is None:
        return max(lowest, needed.opset if needed else 0)
    if needed is not None and chosen < needed.opset:
        raise ExportError(
            f"Opset {chosen} has no form for {needed.dtype.name.lower()} of '{needed.name}'.",
            layer=needed.layer or None,
            remedy=f"Take opset {needed.opset} or later.",
        )
    return chosen


def _trace_dynamic(gm: fx.GraphModule, inputs: Inputs, opset: int) -> ir.Model | None:
    """Trace with a batch dimension that may vary; return None where it cannot."""
    try:
        return _trace(gm, _with_batch_of_two(inputs), opset, dynamic=True)
    except Exception as error:  # torch.export has no common error for a dimension that cannot vary
        log.info("a dynamic batch dimension is not possible: %s", first_line(error))
        return None


def _trace_static(gm: fx.GraphModule, inputs: Inputs, opset: int) -> ir.Model:
    try:
        return _trace(gm, inputs, opset, dynamic=False)
    except Exception as error:  # torch.onnx's own tree is private
        raise ExportError(
            f"torch.onnx cannot export the model: {_root_cause(error)}",
            remedy="The chained error says which op it stumbles over.",
        ) from error


def _trace(gm: fx.GraphModule, inputs: Inputs, opset: int, *, dynamic: bool) -> ir.Model:
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # the exporter's notes on its own workings
        exported = _exported(gm, inputs, dynamic=dynamic)
        if needs_no_decomposition(exported):
            try:
                return _translated(as_it_is(exported), opset, translations() | DIRECT)
            except Exception as error:  # torch.onnx's own tree is private
                log.info("the graph has to be decomposed: %s", _root_cause(error))
                exported = _exported(gm, inputs, dynamic=dynamic)  # torch.onnx writes into the graph
        return _translated(exported, opset, translations())


def _exported(gm: fx.GraphModule, inputs: Inputs, *, dynamic: bool) -> torch.export.ExportedProgram:
    return torch.export.export(
        gm,
        tuple(inputs.values()),
        strict=False,
        dynamic_shapes=_dynamic_shapes(inputs) if dynamic else None,
    )


def _translated(exported: torch.export.ExportedProgram, opset: int, table: dict[Any, Any]) -> ir.Model:
    program = torch.onnx.export(
        exported,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        custom_translation_table=table,
        optimize=False,
    )
    if program is None:
        raise ExportError("torch.onnx gave no program.")
    optimize_ir(program.model, num_iterations=1)  # torch.onnx takes two, and fuses attention
    IdentityEliminationPass()(program.model)
    return program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch logs of a failed attempt: its error says what a user can use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _inputs(gm: fx.GraphModule, example: Example) -> Inputs:
    """Return the value of each input of a graph; what the graph does not take is left out."""
    names = [str(node.target) for node in gm.graph.find_nodes(op="placeholder")]
    given = dict(zip(names, example.args, strict=False)) | example.kwargs
    return {name: given[name] for name in names}


def _dynamic_shapes(inputs: Inputs) -> dict[str, Any]:
    """Mark the first dimension of each tensor that has as many rows as the first tensor."""
    rows = _batch_size(inputs)
    batch = torch.export.Dim("batch")

    def shape(value: Any) -> Any:
        return {0: batch} if _rows(value) == rows and rows else None

    return {name: pytree.tree_map(shape, value) for name, value in inputs.items()}


def _with_batch_of_two(inputs: Inputs) -> Inputs:
    """Repeat a batch of one: a dimension of size 1 cannot be traced as dynamic."""
    if _batch_size(inputs) != 1:
        return inputs

    def double(value: Any) -> Any:
        return torch.cat([value, value]) if _rows(value) == 1 else value

    return {name: pytree.tree_map(double, value) for name, value in inputs.items()}


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}."


def _batch_size(inputs: Inputs) -> int:
    return rows_of(Example(kwargs=inputs))


def _rows(value: object) -> int:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else 0
