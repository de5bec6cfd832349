import subprocess
import sys

import pytest

COMPILES_AFTER_RECORDING = """
import torch, fxquant
fxquant.prepare(torch.nn.Linear(4, 4), torch.ones(1, 4))

def three_times(x):
    for number in range(3):
        x = x + number
    return x

compiled = torch.compile(three_times, backend="eager", fullgraph=True)
assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 4.0))
"""


@pytest.mark.slow  # a process that has never compiled anything
def test_compiler_that_recording_started_knows_range() -> None:
    subprocess.run([sys.executable, "-c", COMPILES_AFTER_RECORDING], check=True)
