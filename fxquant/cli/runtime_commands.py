"""The commands that need a runtime: verify a file, compile it for a chip."""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fxquant.analysis import ParityReport, compare_runtimes
from fxquant.api import verify
from fxquant.cli.loading import load_batches, load_quantized, rows_of
from fxquant.runtimes import RUNTIMES, SOCS, ExactOnnxRuntime, export_context
from fxquant.runtimes.soc import DEFAULT_SOC

_NUMBERS = ("codes", "differ", "steps", "end to end")  # columns, right-aligned


@click.command("verify", short_help="Run a file in a runtime and say what differs.")
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
    data = load_batches(batches, batch_size or rows_of(file))
    options = {} if soc is None else {"soc": soc}
    if model:
        parity = verify(load_quantized(model[0]), file, data, runtime, allowed_steps, **options)
    else:
        against = reference or ExactOnnxRuntime.name
        parity = compare_runtimes(file, data, runtime, against, allowed_steps, **options)
    _print_parity(parity, rows)
    is_as_meant = not (parity.fallbacks or parity.float_islands) and parity.is_exposure_neutral
    if parity.departures or (strict and not is_as_meant):
        raise click.exceptions.Exit(1)


@click.command("compile", short_help="Compile a file for a Qualcomm chip.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--soc", default=DEFAULT_SOC, show_default=True, help=f"Chip: {', '.join(SOCS)}.")
@click.option("--batch-size", default=1, show_default=True, help="Size of dimensions the file leaves open.")
def compile_command(file: Path, out: Path, soc: str, batch_size: int) -> None:
    """Compile FILE for a Qualcomm chip: OUT, an ONNX file, and a context binary beside it."""
    files = export_context(file, out, soc=soc, batch_size=batch_size)
    click.echo(f"{files.onnx}\n{files.binary}")


def _print_parity(parity: ParityReport, rows: int) -> None:
    """Print the tensors whose ops are off the most, in graph order, and the report's text."""
    worst = sorted(parity.tensors, key=lambda tensor: (-tensor.max_steps, -tensor.share))
    shown = {id(tensor) for tensor in (worst if rows < 0 else worst[:rows])}
    table = Table("tensor", "op", box=None)
    for column in _NUMBERS:
        table.add_column(column, justify="right")
    for tensor in (tensor for tensor in parity.tensors if id(tensor) in shown):
        steps = f"{tensor.share:.2%}", str(tensor.max_steps), str(tensor.max_drift)
        table.add_row(escape(tensor.name), escape(tensor.op), str(tensor.elements), *steps)
    Console().print(table)
    click.echo(str(parity))
