"""export_module: any module that torch.onnx takes, with its quantized constants stored as codes."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from fxquant.errors import ExportError, FxQuantError, first_line
from fxquant.export.fold_quantizers import fold_quantizers
from fxquant.export.graph_edits import strip
from fxquant.export.write_onnx import write_onnx
from fxquant.files.atomic import atomic_files


def export_module(
    model: nn.Module,
    args: tuple[Any, ...],
    path: Path,
    *,
    kwargs: Mapping[str, Any] | None = None,
    opset: int | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    external_data: bool | None = None,
) -> None:
    """Write a module as ONNX, whole or not at all; constants that it quantizes become integers in the file.

    Args:
        model: The module; it is exported as it is in eval mode, and left as it was.
        args: Positional inputs to trace with.
        path: The file.
        kwargs: Keyword inputs.
        opset: Opset of the file; None for torch.onnx's own choice.
        input_names: Names of the inputs in the file.
        output_names: Names of the outputs.
        dynamic_shapes: Sizes that may vary, as torch.onnx.export takes them.
        external_data: Whether constants go to a file of their own; None for when they do not fit into one.

    Raises:
        ExportError: If torch.onnx cannot export the module, or the file cannot be written.
    """
    with _in_eval_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own workings
        try:
            program = torch.onnx.export(
                model,
                args,
                kwargs=None if kwargs is None else dict(kwargs),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=dynamic_shapes,
            )
        except Exception as error:  # torch.onnx's own tree is private
            raise _readable(error) from error
    if program is None:
        raise ExportError("torch.onnx gave no program.")
    traced: ir.Model = program.model
    fold_quantizers(traced)
    strip(traced)  # among the traces of torch.onnx are stacks, with the paths of the machine
    with atomic_files(path.parent) as files:
        write_onnx(traced, files, path.name, external_data)


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _readable(error: BaseException) -> FxQuantError:
    """Return the error of fxquant that a failure came of, or one that tells its first cause."""
    while error.__cause__ is not None and not isinstance(error, FxQuantError):
        error = error.__cause__
    if isinstance(error, FxQuantError):
        return error
    return ExportError(
        f"torch.onnx cannot export the model: {type(error).__name__}: {first_line(error)}",
        remedy="The chained error says what it stumbles over.",
    )
