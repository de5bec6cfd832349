"""Classes made from the op table: their names, quantizers and documents."""

import importlib

import pytest
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

import fxquant.nn
from fxquant.nn import QuantizationMixin, StandardForward, custom, quantized
from fxquant.ops import TABLE, ModuleForm
from tests.nn import cases, custom_cases, torch_cases

MADE = [getattr(room, name) for room in (quantized, custom.quantized) for name in room.__all__]
EVERY_MADE = pytest.mark.parametrize("made", MADE, ids=lambda made: f"{made.__module__}.{made.__name__}")

# AIMET's counts of input and output quantizers, where they are not one and one
COUNTS = {
    "nn": {
        **dict.fromkeys(("BCELoss", "BCEWithLogitsLoss", "Bilinear", "CosineEmbeddingLoss"), (2, 1)),
        **dict.fromkeys(("CosineSimilarity", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss"), (2, 1)),
        **dict.fromkeys(("MSELoss", "MarginRankingLoss", "PairwiseDistance", "PoissonNLLLoss"), (2, 1)),
        **dict.fromkeys(("SmoothL1Loss", "GRUCell", "RNNCell"), (2, 1)),
        **dict.fromkeys(("GaussianNLLLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss"), (3, 1)),
        **dict.fromkeys(("GRU", "RNN"), (2, 2)),
        **{"Embedding": (0, 1), "LSTM": (3, 3), "LSTMCell": (3, 2), "MultiheadAttention": (3, 2)},
    },
    "custom": {
        **dict.fromkeys(("MatMul", "Add", "Multiply", "Subtract", "Divide", "Outer", "FloorDivide"), (2, 1)),
        **dict.fromkeys(("Maximum", "Minimum", "Bmm", "LogicalOr", "LogicalAnd", "Remainder"), (2, 1)),
        **dict.fromkeys(("Fmod", "GridSample", "Pow", "RoiAlign"), (2, 1)),
        **dict.fromkeys(("MaskedFill", "Baddbmm", "Addmm", "DynamicConv2d", "DynamicLinear"), (3, 1)),
        **dict.fromkeys(("ScatterND", "ScatterElements"), (3, 1)),
        **{"BatchNorm": (5, 1), "RotaryEmbedding": (4, 1)},
    },
}
CLASSES = [
    pytest.param(case, COUNTS[room].get(name, (1, 1)), id=f"{room}.{name}")
    for room, found in (("nn", torch_cases.CLASSES), ("custom", custom_cases.CLASSES))
    for name, case in found.items()
]


@pytest.mark.parametrize(("case", "counts"), CLASSES)
def test_inputs_and_outputs_have_as_many_quantizers_as_in_aimet(
    case: cases.Case, counts: tuple[int, int]
) -> None:
    module = QuantizationMixin.from_module(case.module)
    assert (len(module.input_quantizers), len(module.output_quantizers)) == counts


@EVERY_MADE
def test_a_class_is_found_where_it_says_it_lives(made: type[StandardForward]) -> None:
    assert getattr(importlib.import_module(made.__module__), made.__name__) is made
    room = custom if made.__module__.startswith("fxquant.nn.custom") else fxquant.nn
    assert getattr(room, made.__name__) is made
    assert made.__name__ in room.__all__


@EVERY_MADE
def test_a_class_stands_for_its_original(made: type[StandardForward]) -> None:
    assert made.__name__ == f"Quantized{made.original_class.__name__}"
    assert QuantizationMixin.cls_to_qcls[made.original_class] is made
    assert QuantizationMixin.qcls_to_cls[made] is made.original_class
    assert made.original_class.__name__ in str(made.__doc__)


def test_every_module_of_the_table_has_a_quantized_class_or_is_left_as_it_is() -> None:
    modules = {module: op for op in TABLE for module in op.modules}
    assert {m for m, op in modules.items() if op.has_quantized_modules} <= set(QuantizationMixin.cls_to_qcls)
    left = [module for module, op in modules.items() if not op.has_quantized_modules]
    assert left == [nn.Identity]


def test_every_custom_class_has_a_case() -> None:
    names = {made.original_class.__name__ for made in MADE if made.__module__ == custom.quantized.__name__}
    assert names - {"RoiAlign"} == set(
        custom_cases.CLASSES
    )  # it needs torchvision: see custom/test_detection.py


@pytest.mark.parametrize("name", ["Identity", "Equal", "Where", "TopK", "Shape", "Cast", "NonMaxSuppression"])
def test_what_is_never_quantized_stays_as_it_is(name: str) -> None:
    module_class = getattr(custom, name, None) or getattr(nn, name)
    module = module_class.__new__(module_class)
    nn.Module.__init__(module)
    assert QuantizationMixin.from_module(module) is module
    assert not hasattr(custom, f"Quantized{name}")


def test_a_class_of_torch_that_only_has_another_name_has_a_class_of_its_own() -> None:
    linear = QuantizationMixin.from_module(NonDynamicallyQuantizableLinear(2, 2))
    assert type(linear) is quantized.QuantizedNonDynamicallyQuantizableLinear
    assert type(linear.get_original_module()) is NonDynamicallyQuantizableLinear


def test_forms_are_modules_of_one_function() -> None:
    assert all(issubclass(getattr(custom, name), ModuleForm) for name in custom.forms.__all__)
