"""The calibrate command, and the options that it shares with quantize."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import fx

from fxquant.api import apply_statistics, calibrate, prepare
from fxquant.calibration import DEFAULT_TIMEOUT, METHODS, first_call, load_statistics, save_statistics
from fxquant.cli.loading import load_batches, load_model
from fxquant.cli.processes import process_group
from fxquant.errors import OptionError
from fxquant.files.atomic import write_atomically

_FILE = click.Path(dir_okay=False, path_type=Path)
_METHOD = f"One of {', '.join(METHODS)}; percentile:99.9 is another percentile."
_OPTIONS = (
    click.option("--method", default="minmax", show_default=True, help=f"For activations. {_METHOD}"),
    click.option("--weights", default="minmax", show_default=True, help="Method for parameters."),
    click.option(
        "--override",
        multiple=True,
        metavar="PATTERN=METHOD",
        help="Another method for tensors or layers: 'layer4.*=mse'. May be given often; the last one counts.",
    ),
    click.option(
        "--checkpoint",
        type=_FILE,
        help="Keep what was seen here, and go on from it where it exists. All processes must see its folder.",
    ),
    click.option(
        "--timeout",
        default=DEFAULT_TIMEOUT,
        show_default=True,
        help="Seconds that one of several processes may take for a batch before the others give it up.",
    ),
)


def calibration_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``calibrated``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def calibrated(prepared: fx.GraphModule, data: object, statistics: Path | None, **options: Any) -> Any:
    """Set the ranges of a model from statistics where they are given, otherwise from data; return them.

    Raises:
        OptionError: If an override is not written PATTERN=METHOD.
        FxQuantError: Whatever the verbs raise.
    """
    overrides = dict(map(_override, options["override"]))
    methods = {"method": options["method"], "weights": options["weights"], "overrides": overrides}
    if statistics is None:
        kept = {"checkpoint": options["checkpoint"], "timeout": options["timeout"]}
        return calibrate(prepared, data, **methods, **kept)
    loaded = load_statistics(statistics)
    apply_statistics(prepared, loaded, **methods)
    return loaded


@click.command("calibrate", short_help="Find ranges from data, on one process or many.")
@click.argument("model")
@click.argument("batches", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", default="tensorrt", show_default=True, help="Name of the target.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder."
)
@click.option(
    "--batch-size", default=32, type=click.IntRange(min=1), show_default=True, help="Rows of a batch."
)
@calibration_options
def calibrate_command(
    model: str, batches: Path, target: str, out: Path, batch_size: int, **options: Any
) -> None:
    """Find the ranges of MODEL on BATCHES, an .npz file with one array per input.

    Writes OUT/statistics.pt, from which "fxquant quantize --statistics" takes ranges without data, for other
    methods and targets too, and OUT/prepared.pt, the calibrated model. Started by torchrun, processes share
    the batches: torchrun --nproc-per-node 4 -m fxquant calibrate ...
    """
    with process_group() as is_first:
        data = load_batches(batches, batch_size)
        loaded = load_model(model)
        prepared = prepare(loaded, first_call(loaded, data)[0], target=target)
        found = calibrated(prepared, data, None, **options)
        if not is_first:
            return
        files = out / "statistics.pt", out / "prepared.pt"
        out.mkdir(parents=True, exist_ok=True)
        save_statistics(found, files[0])
        write_atomically(files[1], lambda temporary: torch.save(prepared, temporary))
        click.echo("\n".join(map(str, files)))
        click.echo(f"{len(found)} tensors in {found.num_batches} batches")


def _override(text: str) -> tuple[str, str]:
    pattern, equals, method = text.rpartition("=")
    if not equals or not pattern:
        raise OptionError(
            f"The override '{text}' names no method.", remedy="Write PATTERN=METHOD: 'layer4.*=mse'."
        )
    return pattern, method
