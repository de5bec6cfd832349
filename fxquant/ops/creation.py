"""Rows of ops that make tensors from sizes and numbers, or cast them: nothing of theirs is quantized."""

import torch

from fxquant.ops.op import Op, OutputRange

_FACTORIES = (
    *(torch.arange, torch.zeros, torch.ones, torch.full, torch.empty, torch.eye, torch.linspace),
    *(torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like, torch.tensor, torch.as_tensor),
    *(torch.meshgrid, torch.cartesian_prod, torch.scalar_tensor, torch.hann_window),
)
_RANDOM = (
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.rand_like,
    torch.randn_like,
    torch.bernoulli,
)
_NEW = ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")
_CASTS = (
    "to",
    "type",
    "type_as",
    "float",
    "double",
    "half",
    "bfloat16",
    "int",
    "long",
    "short",
    "bool",
    "byte",
    "cpu",
)

CREATION = (
    Op(
        name="create",
        functions=_FACTORIES,
        methods=_NEW,
        operands=(),
        output=OutputRange.FLOAT,  # known from sizes and numbers
        onnx="Constant, Range, ConstantOfShape",
    ),
    Op(
        name="random",
        functions=_RANDOM,
        operands=(),
        output=OutputRange.FLOAT,
        is_random=True,
        onnx="RandomUniform",
    ),
    Op(name="cast", methods=_CASTS, output=OutputRange.LIKE_INPUT, is_cast=True, onnx="Cast"),
)
"""``cast`` may give the tensor itself."""
