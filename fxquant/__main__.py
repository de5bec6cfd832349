"""The command line as a module: torchrun -m fxquant calibrate ..."""

from fxquant.cli import main

if __name__ == "__main__":
    main(prog_name="fxquant")
