"""to_onnx: a quantized model as an ONNX model with QuantizeLinear and DequantizeLinear."""

import logging
import warnings
from importlib.metadata import version
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from fxquant.errors import ExportError
from fxquant.export.graph_edits import (
    fold_transposed_weights,
    fuse_global_pools,
    remove_unused_constants,
    share_initializers,
    strip,
)
from fxquant.export.lower import lower, needs_opset_21
from fxquant.export.names import name_constants, name_inputs, name_tensors
from fxquant.export.operators import translations
from fxquant.graph import Example, ModelRecord

log = logging.getLogger(__name__)

PRODUCER = "fxquant"


def to_onnx(gm: fx.GraphModule, example: Example, record: ModelRecord) -> ir.Model:
    """Return the ONNX model of a quantized model, its batch dimension dynamic where it can be.

    Raises:
        ExportError: If torch.onnx cannot export the graph.
    """
    wide = [t.dtype for t in example.tensors() if t.is_floating_point() and t.dtype is not torch.float32]
    if wide:
        raise ExportError(
            f"Quantized ONNX is float32 around its integers, not {wide[0]}.", remedy="Export model.float()."
        )
    opset = 21 if needs_opset_21(gm) else 18
    lowered = lower(gm)
    batched = _with_batch_of_two(example)
    try:
        model = _trace(lowered, batched, opset, dynamic=True)
    except Exception as error:  # torch.export has no common error for a dimension that cannot vary
        log.info("a dynamic batch dimension is not possible: %s", str(error).splitlines()[0])
        model = _trace_static(lowered, example, opset)
    fold_transposed_weights(model)
    fuse_global_pools(model)
    share_initializers(model)
    remove_unused_constants(model)
    name_inputs(model, [str(node.target) for node in gm.graph.find_nodes(op="placeholder")])
    name_tensors(model)
    name_constants(model)
    strip(model)
    model.producer_name, model.producer_version = PRODUCER, version(PRODUCER)
    model.metadata_props.clear()
    model.metadata_props.update({"fxquant.target": record.target, "fxquant.pipeline": record.pipeline})
    return model


def _trace_static(gm: fx.GraphModule, example: Example, opset: int) -> ir.Model:
    try:
        return _trace(gm, example, opset, dynamic=False)
    except Exception as error:  # torch.onnx's own tree is private
        raise ExportError(
            f"torch.onnx cannot export the model: {_root_cause(error)}",
            remedy="The chained error says which op it stumbles over.",
        ) from error


def _trace(gm: fx.GraphModule, example: Example, opset: int, *, dynamic: bool) -> ir.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own workings
        program = torch.onnx.export(
            gm,
            example.args,
            kwargs=example.kwargs,
            dynamo=True,
            verbose=False,
            opset_version=opset,
            custom_translation_table=translations(opset),
            dynamic_shapes=_dynamic_shapes(gm, example) if dynamic else None,
        )
    if program is None:
        raise ExportError("torch.onnx gave no program.")
    return program.model


def _dynamic_shapes(gm: fx.GraphModule, example: Example) -> dict[str, Any]:
    """Mark the first dimension of each tensor that has as many rows as the first tensor."""
    names = [str(node.target) for node in gm.graph.find_nodes(op="placeholder")]
    given = dict(zip(names, example.args, strict=False)) | example.kwargs
    rows = _batch_size(example)
    batch = torch.export.Dim("batch")
    return {name: {0: batch} if _rows(value) == rows and rows else None for name, value in given.items()}


def _with_batch_of_two(example: Example) -> Example:
    """Repeat a batch of one: a dimension of size 1 cannot be traced as dynamic."""
    if _batch_size(example) != 1:
        return example

    def double(value: Any) -> Any:
        return torch.cat([value, value]) if _rows(value) == 1 else value

    return Example(
        args=tuple(double(value) for value in example.args),
        kwargs={name: double(value) for name, value in example.kwargs.items()},
    )


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}."


def _batch_size(example: Example) -> int:
    return next((_rows(tensor) for tensor in example.tensors() if tensor.dim()), 0)


def _rows(value: object) -> int:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else 0
