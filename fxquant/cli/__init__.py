"""The command line; the one room that prints."""

from fxquant.cli.calibration_commands import calibrate_command
from fxquant.cli.commands import main
from fxquant.cli.runtime_commands import compile_command, verify_command

main.add_command(calibrate_command)
main.add_command(verify_command)
main.add_command(compile_command)

__all__ = ["main"]
