"""main: the commands that quantize a model and show what fxquant knows."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from torch import fx

from fxquant.api import calibrate, convert, export, load_encodings, prepare, report, verify
from fxquant.api import lint as lint_file
from fxquant.arithmetic import ARITHMETICS, FLOAT
from fxquant.calibration import first_call
from fxquant.cli.loading import load_batches, load_model
from fxquant.errors import FxQuantError, unknown_option
from fxquant.export import DEFAULT_VERSION, VERSIONS
from fxquant.files.atomic import write_atomically
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
    "--encodings",
    type=click.Path(path_type=Path),
    help="Take all ranges from this encodings file; BATCHES then only verify.",
)
@click.option(
    "--encodings-version",
    default=None,
    type=click.Choice(VERSIONS),
    help=f"Format of the encodings written: by default {DEFAULT_VERSION}, and 2.0.0 where there is float8.",
)
@click.option(
    "--arithmetic",
    default=FLOAT.name,
    type=click.Choice(list(ARITHMETICS)),
    show_default=True,
    help="How the simulation rounds.",
)
def quantize(
    model: str,
    batches: Path,
    target: str,
    out: Path,
    batch_size: int,
    encodings: Path | None,
    encodings_version: str | None,
    arithmetic: str,
) -> None:
    """Quantize MODEL on BATCHES, an .npz file with one array per input; write and verify the files."""
    data = load_batches(batches, batch_size)
    loaded = load_model(model)
    prepared = prepare(loaded, first_call(loaded, data)[0], target=target)
    if encodings is None:
        calibrate(prepared, data)
    else:
        load_encodings(prepared, encodings)
    quantized = convert(prepared, arithmetic)
    files = export(quantized, out, encodings_version=encodings_version)
    model_file = files.onnx.with_suffix(".pt")
    write_atomically(model_file, lambda temporary: torch.save(quantized, temporary))
    click.echo(f"{files.onnx}\n{files.encodings}\n{model_file}")
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

    gm = capture(load_model(model))
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
    """List all targets, and the schemes of each."""
    rows = [(t.name, str(t.activation), str(t.weight), t.description) for t in TARGETS.values()]
    rows += [
        (f"{t.name}:{name}", str(scheme.activation or "float"), str(scheme.weight), scheme.why)
        for t in TARGETS.values()
        for name, scheme in t.schemes.items()
    ]
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


@main.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_TARGET
@click.option(
    "--fix", type=click.Path(dir_okay=False, path_type=Path), help="Write the model, repaired, here."
)
@click.option("--ignore", default="", help="Rules not to check: P12,P13.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def lint(ctx: click.Context, path: Path, target: str, fix: Path | None, ignore: str, as_json: bool) -> None:
    """Check PATH, a quantized ONNX file, against a target's rules; the exit code is 1 if there are errors."""
    ignored = [name.strip() for name in ignore.split(",") if name.strip()]
    found = lint_file(path, target, ignore=ignored, fix=fix)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        rows = [
            (
                f.severity.value,
                f.rule,
                f.op,
                f.tensor or f.node,
                f.message,
                f.remedy + " [--fix]" * f.is_fixable,
            )
            for f in found.findings
        ]
        if rows:
            _print_table(("", "rule", "op", "tensor", "what", "remedy"), rows)
        click.echo(found.summary())
    ctx.exit(1 if found.has_errors else 0)


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _first_line(step: type[Pass]) -> str:
    return (step.__doc__ or "").strip().splitlines()[0]
