"""Generated documents are as the code generates them; public things are documented; examples in docs run."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import fxquant
from fxquant.lint import RULES, rules_text
from fxquant.nn import custom, quantized
from fxquant.nn.stubs import stub_text
from fxquant.passes import CATALOGUE, catalogue_text
from fxquant.targets import TARGETS, support_text

ROOT = Path(__file__).parent.parent
GENERATED = {
    "fxquant/passes/README.md": lambda: catalogue_text(CATALOGUE),
    "docs/lint.md": lambda: rules_text(RULES),
    "docs/ops.md": lambda: support_text(tuple(TARGETS.values())),
    "fxquant/nn/quantized.pyi": lambda: stub_text(quantized),
    "fxquant/nn/custom/forms.pyi": lambda: stub_text(custom.forms),
    "fxquant/nn/custom/quantized.pyi": lambda: stub_text(custom.quantized),
}
MODULES = [name for _, name, _ in pkgutil.walk_packages(fxquant.__path__, "fxquant.")]


def public_things():
    for name in MODULES:
        module = importlib.import_module(name)
        for key in getattr(module, "__all__", ()):
            thing = getattr(module, key)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{name}.{key}")


@pytest.mark.parametrize("path", GENERATED)
def test_generated_document_is_up_to_date(path, request):
    text = GENERATED[path]()
    if request.config.getoption("--update-golden"):
        (ROOT / path).write_text(text, encoding="utf-8")
    assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: run make golden"


@pytest.mark.parametrize("thing", list(public_things()))
def test_public_thing_and_its_methods_are_documented(thing):
    methods = [value for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"]
    undocumented = [method.__qualname__ for method in [thing, *methods] if not inspect.getdoc(method)]
    inherited = {
        name for name in undocumented if any(hasattr(base, name.split(".")[-1]) for base in thing.__mro__[1:])
    }
    assert set(undocumented) == inherited


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


DOCUMENTS = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("aimet", "algorithms", "analysis", "arithmetic", "capture", "data", "encodings", "large")
    ),
    "docs/pytorch_quantization.md",
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_in_a_document_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(ROOT / document), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 5
    assert results.failed == 0
