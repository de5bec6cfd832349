"""The root `passes` link is for browsing: it shows the real folder and refuses to be imported."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_root_passes_links_to_the_package() -> None:
    link = ROOT / "passes"
    assert link.is_symlink()
    assert link.readlink() == Path("fxquant/passes")
    assert link.resolve() == ROOT / "fxquant" / "passes"


def test_importing_the_link_says_what_to_import() -> None:
    run = subprocess.run([sys.executable, "-c", "import passes"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].startswith("ImportError")
    assert "fxquant.passes" in run.stderr.splitlines()[-1]
