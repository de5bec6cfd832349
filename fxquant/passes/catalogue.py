"""catalogue_text: the list of all passes as Markdown, kept in README.md beside this file."""

import inspect
import textwrap
from collections.abc import Iterable

from fxquant.passes.base import Pass

_HEAD = """# Passes

Generated from the passes themselves; `make golden` writes it anew. One rewrite per file. The pipelines that
`prepare` and `convert` run are in `__init__.py`.

"""


def catalogue_text(catalogue: Iterable[type[Pass]]) -> str:
    """Return the catalogue: each pass with what it does, changes and needs, and its before and after."""
    return _HEAD + "\n".join(_entry(step) for step in catalogue)


def _entry(step: type[Pass]) -> str:
    what = inspect.cleandoc(step.__doc__ or "").split("\n")[0]
    needs = f" After {', '.join(f'`{name}`' for name in step.after)}." if step.after else ""
    source = inspect.getfile(step).rpartition("/")[2]
    head = f"## `{step.name}`\n\n{what}\nChanges {step.changes.value}.{needs} [{source}]({source})\n"
    return head + _example(inspect.getdoc(inspect.getmodule(step)) or "")


def _example(module_text: str) -> str:
    before, _, after = module_text.partition("Before::")[2].partition("After::")
    code = f"{textwrap.dedent(before.strip(chr(10)))}\n# becomes\n\n{textwrap.dedent(after.strip(chr(10)))}"
    return f"\n```text\n{code}\n```\n"
