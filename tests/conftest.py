"""Fixtures of every test: golden files, seeded randomness, and skipping what this machine cannot run."""

import difflib
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"

# Derandomized: a failure shows again on the next run, here and on every other machine. No deadline: timings
# of a first torch call say nothing about the law under test.
hypothesis.settings.register_profile("fxquant", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fxquant")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files under tests/golden"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if item.get_closest_marker("htp") and importlib.util.find_spec("onnxruntime_qnn") is None:
        pytest.skip("needs onnxruntime-qnn: pip install fxquant[qualcomm]")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def fresh_compiler() -> None:
    """Let torch.compile forget: modules that share a forward share its limited number of recompilations."""
    torch.compiler.reset()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return `check(text, name)`: compare text with tests/golden/<name>.txt, or update that file.

    A name may hold folders: "passes/fold_batch_norm". Blank space at the end of the text does not count.
    """
    updating = request.config.getoption("--update-golden")

    def check(text: str, name: str) -> None:
        path = GOLDEN / f"{name}.txt"
        found = text.rstrip() + "\n"
        if updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8", newline="\n")
            return
        wanted = path.read_text(encoding="utf-8") if path.exists() else ""
        if found != wanted:
            shown = f"tests/golden/{name}.txt"
            diff = difflib.unified_diff(
                wanted.splitlines(), found.splitlines(), shown, "this run", lineterm=""
            )
            pytest.fail("\n".join([f"{shown} differs (accept with --update-golden):", *diff]), pytrace=False)

    return check
