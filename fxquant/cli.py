"""The command line; the one room that prints."""

import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from torch import fx, nn

from fxquant.analysis import ParityReport, compare_runtimes
from fxquant.api import calibrate, convert, export, prepare, report, verify
from fxquant.calibration import without_label
from fxquant.errors import BatchError, FxQuantError, ModelTypeError, unknown_option
from fxquant.export.atomic import write_atomically
from fxquant.graph import Report, capture, graph_text
from fxquant.ops import TABLE
from fxquant.passes import CATALOGUE, Pass, parse, prepare_pipeline
from fxquant.runtimes import RUNTIMES, SOCS, ExactOnnxRuntime, export_context, input_sizes
from fxquant.runtimes.soc import DEFAULT_SOC
from fxquant.targets import TARGETS, get_target

_TARGET = click.option("--target", default="tensorrt", show_default=True, help="Name of the target.")


class _Commands(click.Group):
    """Commands whose fxquant errors end in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FxQuantError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
@click.option("-v", "--verbose", count=True, help="Log one line per pass; twice: one per site.")
def main(verbose: int) -> None:
    """Quantize PyTorch models: what you simulate is what you ship.

    MODEL is "module:name": an nn.Module, or a function or class that gives one when called.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    sys.path.insert(0, "")


@main.command()
@click.argument("model")
@click.argument("batches", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_TARGET
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder."
)
@click.option(
    "--batch-size",
    default=32,
    type=click.IntRange(min=1),
    show_default=True,
    help="Rows of each array in one batch.",
)
def quantize(model: str, batches: Path, target: str, out: Path, batch_size: int) -> None:
    """Quantize MODEL on BATCHES, an .npz file with one array per input; write and verify the files."""
    data = _load_batches(batches, batch_size)
    loaded = _load_model(model)
    prepared = prepare(loaded, without_label(loaded, data[0]) if data else None, target=target)
    calibrate(prepared, data)
    quantized = convert(prepared)
    files = export(quantized, out)
    model_file = files.onnx.with_suffix(".pt")
    write_atomically(model_file, lambda temporary: torch.save(quantized, temporary))
    click.echo(f"{files.onnx}\n{files.encodings}\n{model_file}")
    click.echo(str(verify(quantized, files, data)))
    for site in report(quantized).floats.values():
        click.echo(f"float: {site.op} at '{site.layer or site.node}': {site.reason}")


@main.command("verify", short_help="Run a file in a runtime and say what differs.")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--runtime", default="onnxruntime", show_default=True, help=f"One of: {', '.join(RUNTIMES)}.")
@click.option("--reference", help="Runtime to hold it against, where no model is given.")
@click.option("--soc", help=f"Chip, for htp: {', '.join(SOCS)}.")
@click.option("--allowed-steps", default=1, show_default=True, help="By how many steps an op may be off.")
@click.option(
    "--strict",
    is_flag=True,
    help="Also fail where the file is not run as it is meant.",
)
@click.option("--rows", default=20, show_default=True, help="Rows of the table, the worst ops; -1 for all.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Rows in a batch: by default the file's, or 32."
)
def verify_command(
    paths: tuple[Path, ...],
    runtime: str,
    reference: str | None,
    soc: str | None,
    allowed_steps: int,
    strict: bool,
    rows: int,
    batch_size: int | None,
) -> None:
    """Run FILE in a runtime: fxquant verify [MODEL.pt] FILE.onnx BATCHES.npz.

    MODEL.pt is the quantized model that "fxquant quantize" saved: the file is held against its simulation. It
    is loaded as a pickle, which can run any code: give only files you trust. Without it, the file is held
    against itself in another runtime, by default ONNX Runtime without graph optimizations.

    Ends with 1 if an op is off by more than the allowed steps when it is fed the runtime's own inputs. With
    --strict also if the runtime did not take a node, ran a quantized op in float, or gives other outputs when
    it also gives its codes.
    """
    if len(paths) not in (2, 3) or (len(paths) == 3 and reference):
        raise click.UsageError("Give FILE and BATCHES, with a MODEL before them or with --reference.")
    *model, file, batches = paths
    data = _load_batches(batches, batch_size or _rows_of(file))
    options = {} if soc is None else {"soc": soc}
    if model:
        parity = verify(_load_quantized(model[0]), file, data, runtime, allowed_steps, **options)
    else:
        arrays = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in data]
        against = reference or ExactOnnxRuntime.name
        parity = compare_runtimes(file, arrays, runtime, against, allowed_steps, **options)
    _print_parity(parity, rows)
    is_as_meant = not (parity.fallbacks or parity.float_islands) and parity.is_exposure_neutral
    if parity.departures or (strict and not is_as_meant):
        raise click.exceptions.Exit(1)


@main.command("compile", short_help="Compile a file for a Qualcomm chip.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--soc", default=DEFAULT_SOC, show_default=True, help=f"Chip: {', '.join(SOCS)}.")
@click.option("--batch-size", default=1, show_default=True, help="Size of dimensions the file leaves open.")
def compile_command(file: Path, out: Path, soc: str, batch_size: int) -> None:
    """Compile FILE for a Qualcomm chip: OUT, an ONNX file, and a context binary beside it."""
    files = export_context(file, out, soc=soc, batch_size=batch_size)
    click.echo(f"{files.onnx}\n{files.binary}")


@main.command()
@click.argument("model")
@_TARGET
@click.option("-p", "--pipeline", help="Passes to run instead of the target's: name,name{option=value}.")
@click.option("--print-after", multiple=True, help="Also print the graph after this pass.")
def run(model: str, target: str, pipeline: str | None, print_after: tuple[str, ...]) -> None:
    """Run passes on MODEL and print its graph."""
    steps = prepare_pipeline(get_target(target)) if pipeline is None else parse(pipeline).for_target(target)
    names = [step.name for step in steps.passes]
    unknown = [name for name in print_after if name not in names]
    if unknown:
        raise unknown_option("pass in this pipeline", unknown[0], names)

    def print_graph(step: Pass, graph: fx.GraphModule) -> None:
        if step.name in print_after:
            click.echo(f"# after {step.name}\n{graph_text(graph)}")

    gm = capture(_load_model(model))
    steps.run(gm, Report(), print_graph)
    click.echo(f"# after all of: {steps}\n{graph_text(gm)}", nl=False)


@main.command()
def passes() -> None:
    """List all passes."""
    _print_table(
        ("pass", "changes", "what it does"), [(p.name, p.changes.value, _first_line(p)) for p in CATALOGUE]
    )


@main.command()
def targets() -> None:
    """List all targets."""
    rows = [(t.name, str(t.activation), str(t.weight), t.description) for t in TARGETS.values()]
    _print_table(("target", "activations", "weights", "description"), rows)


@main.command()
@_TARGET
def ops(target: str) -> None:
    """List the op table and what a target does with each op."""
    rules = get_target(target)
    rows = [
        (op.name, op.output.value, rules.rule(op.name).placement.value, rules.rule(op.name).why)
        for op in TABLE
    ]
    _print_table(("op", "output range", "placement", "why"), rows)


def _print_parity(parity: ParityReport, rows: int) -> None:
    """Print the tensors whose ops are off the most, in graph order, and the report's text."""
    worst = sorted(parity.tensors, key=lambda tensor: (-tensor.max_steps, -tensor.share))
    shown = {id(tensor) for tensor in (worst if rows < 0 else worst[:rows])}
    columns = ("tensor", "op", "codes", "differ", "steps", "end to end")
    lines = [
        (t.name, t.op, str(t.elements), f"{t.share:.2%}", str(t.max_steps), str(t.max_drift))
        for t in parity.tensors
        if id(t) in shown
    ]
    _print_table(columns, lines)
    click.echo(str(parity))


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _first_line(step: type[Pass]) -> str:
    return (step.__doc__ or "").strip().splitlines()[0]


def _load_model(path: str) -> nn.Module:
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever importing the user's module raises
        raise ModelTypeError(f"There is no '{path}': {error}.", remedy="Write module:name.") from error
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:  # whatever the user's function raises
            what = f"'{path}' does not give a model: {type(error).__name__}: {error}."
            raise ModelTypeError(
                what, remedy="Name an nn.Module or what makes one without arguments."
            ) from error
    if not isinstance(found, nn.Module):
        raise ModelTypeError(
            f"'{path}' is a {type(found).__name__}.", remedy="Name an nn.Module or what makes one."
        )
    return found


def _load_quantized(path: Path) -> fx.GraphModule:
    try:
        return torch.load(path, weights_only=False)  # type: ignore[no-any-return]  # verify checks what it is
    except Exception as error:  # whatever the file's classes raise while they are made
        raise ModelTypeError(
            f"'{path}' does not hold a model: {type(error).__name__}: {error}.",
            remedy="Give the file that fxquant quantize saved, or none to compare two runtimes.",
        ) from error


def _rows_of(file: Path) -> int:
    """Return the number of rows that a file is fixed to; 32 where it takes any."""
    return next((sizes[0] for sizes in input_sizes(file).values() if sizes and sizes[0]), 32)


def _load_batches(path: Path, size: int) -> list[dict[str, torch.Tensor]]:
    try:
        with np.load(path) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        rows = max((tensor.shape[0] for tensor in tensors.values()), default=0)
    except Exception as error:  # numpy and torch have no common error for data they do not read
        raise BatchError(
            f"'{path}' does not hold batches: {error}.",
            remedy="Write it with numpy.savez(path, input=array).",
        ) from error
    return [{name: t[start : start + size] for name, t in tensors.items()} for start in range(0, rows, size)]
