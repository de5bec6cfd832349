"""Code that names NVIDIA's package gets ours, module by module, and only while it is asked to."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from fxquant.compat import stand_in_for_pytorch_quantization
from fxquant.errors import StandInError

NAME = "pytorch_quantization"
OURS = f"fxquant.compat.{NAME}"
MODULES = (
    "",
    ".tensor_quant",
    ".cuda_ext",
    ".quant_modules",
    ".calib",
    ".calib.calibrator",
    ".calib.max",
    ".calib.histogram",
    ".nn",
    ".nn.functional",
    ".nn.modules",
    ".nn.modules._utils",
    ".nn.modules.clip",
    ".nn.modules.quant_conv",
    ".nn.modules.quant_instancenorm",
    ".nn.modules.quant_linear",
    ".nn.modules.quant_pooling",
    ".nn.modules.quant_rnn",
    ".nn.modules.tensor_quantizer",
    ".optim.helper",
    ".utils",
    ".utils.reduce_amax",
    ".utils.quant_logging",
)


@pytest.fixture
def standing_in():
    with stand_in_for_pytorch_quantization() as stand_in:
        yield stand_in


@pytest.fixture
def network(standing_in):
    """Return a calibrated network made by code that knows the original's names only."""
    quant_nn = importlib.import_module(f"{NAME}.nn")
    model = torch.nn.Sequential(quant_nn.QuantConv2d(3, 4, 3), torch.nn.ReLU(), quant_nn.QuantConv2d(4, 2, 1))
    for module in model.modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            module.amax = 2.0
    return model.eval()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_one_object_under_both_names(module, standing_in):
    assert importlib.import_module(NAME + module) is importlib.import_module(OURS + module)


def test_a_module_keeps_its_own_name(standing_in):
    module = importlib.import_module(f"{NAME}.nn.modules.tensor_quantizer")
    assert module.__name__ == module.__spec__.name == f"{OURS}.nn.modules.tensor_quantizer"


def test_a_module_that_there_is_not_is_said_to_be_missing(standing_in):
    with pytest.raises(ModuleNotFoundError, match=r"pytorch_quantization\.no_such"):
        importlib.import_module(f"{NAME}.no_such")


def test_the_original_that_is_imported_already_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, NAME, ModuleType(NAME))
    with pytest.raises(StandInError, match="imported already"):
        stand_in_for_pytorch_quantization()


def test_ours_comes_before_an_original_that_is_installed(tmp_path, monkeypatch):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "__init__.py").write_text("raise ImportError('needs CUDA')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with stand_in_for_pytorch_quantization():
        assert importlib.import_module(NAME).__name__ == OURS


def test_undone_it_leaves_no_name_behind():
    stand_in = stand_in_for_pytorch_quantization()
    importlib.import_module(f"{NAME}.nn")
    stand_in.undo()
    stand_in.undo()
    assert [name for name in sys.modules if name.startswith(NAME)] == []
    with pytest.raises(ModuleNotFoundError, match=NAME):
        importlib.import_module(NAME)


def test_a_second_call_changes_nothing_and_undoes_nothing(standing_in):
    finders = list(sys.meta_path)
    stand_in_for_pytorch_quantization().undo()
    assert sys.meta_path == finders
    assert importlib.import_module(NAME).__name__ == OURS


def test_nothing_is_imported_before_it_is_asked_for():
    _run(
        "import sys",
        "from fxquant.compat import stand_in_for_pytorch_quantization",
        "stand_in_for_pytorch_quantization()",
        f"assert '{OURS}' not in sys.modules",
        f"import {NAME}.nn.modules.tensor_quantizer as theirs",
        f"import {OURS}.nn.modules.tensor_quantizer as ours",
        "assert theirs.TensorQuantizer is ours.TensorQuantizer",
    )


def test_a_model_pickled_whole_under_the_originals_names_loads(network, tmp_path, monkeypatch):
    for kind in {type(module) for module in network.modules()}:
        monkeypatch.setattr(kind, "__module__", kind.__module__.removeprefix("fxquant.compat."))
    torch.save(network, tmp_path / "model.pt")
    x = torch.rand(2, 3, 8, 8)
    torch.save((x, network(x)), tmp_path / "run.pt")
    _run(
        "import torch",
        "from fxquant.compat import stand_in_for_pytorch_quantization",
        "stand_in_for_pytorch_quantization()",
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)",
        f"assert type(model[0]).__module__ == '{OURS}.nn.modules.quant_conv'",
        f"x, y = torch.load({str(tmp_path / 'run.pt')!r})",
        "torch.testing.assert_close(model(x), y)",  # another process may sum with other threads
    )


def _run(*lines):
    """Run lines in a process of their own: they change which modules are imported."""
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_function_of_its_modules_name_stays_a_function() -> None:
    _run(
        "from fxquant.compat import stand_in_for_pytorch_quantization",
        "stand_in_for_pytorch_quantization()",
        "from pytorch_quantization.utils.reduce_amax import reduce_amax as theirs",
        "from pytorch_quantization import utils",
        "assert utils.reduce_amax is theirs",
    )
