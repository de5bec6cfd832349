"""What the figures were measured on, in words."""

import os
import platform
from pathlib import Path

import torch


def describe_machine() -> str:
    """Return the processor, the number of cores, and the versions of Python and torch."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def _processor() -> str:
    """Return the processor's name with family and model, which tell apart those of the same name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in pairs}
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else name
