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

from fxquant.api import calibrate, convert, export, prepare, report, verify
from fxquant.arithmetic import ARITHMETICS, FLOAT
from fxquant.calibration import without_label
from fxquant.errors import BatchError, FxQuantError, ModelTypeError, unknown_option
from fxquant.graph import Report, capture, graph_text
from fxquant.ops import TABLE
from fxquant.passes import CATALOGUE, Pass, parse, prepare_pipeline
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
@click.option(
    "--arithmetic",
    default=FLOAT.name,
    type=click.Choice(list(ARITHMETICS)),
    show_default=True,
    help="How the simulation rounds.",
)
def quantize(model: str, batches: Path, target: str, out: Path, batch_size: int, arithmetic: str) -> None:
    """Quantize MODEL on BATCHES, an .npz file with one array per input; write and verify the files."""
    data = _load_batches(batches, batch_size)
    loaded = _load_model(model)
    prepared = prepare(loaded, without_label(loaded, data[0]) if data else None, target=target)
    calibrate(prepared, data)
    quantized = convert(prepared, arithmetic)
    files = export(quantized, out)
    click.echo(f"{files.onnx}\n{files.encodings}")
    click.echo(str(verify(quantized, files, data)))
    for site in report(quantized).floats.values():
        click.echo(f"float: {site.op} at '{site.layer or site.node}': {site.reason}")


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
