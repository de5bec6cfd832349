"""call_form: how a call that torch reports is written down as a graph node."""

import builtins
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch.fx.node import _get_qualified_name

from fxquant.graph.recordable import setitem_


class Kind(Enum):
    """What to do with a call."""

    RECORD = "record"  # write it down
    RUN = "run"  # a question about a tensor, or a switch: just run it
    READ = "read"  # hands a tensor's contents to Python
    RANK = "rank"  # asks for the number of dimensions
    SIZE = "size"  # asks for one size or all
    SET = "set"  # puts other contents into a tensor
    LENGTH = "length"  # asks for a size, as a plain int


@dataclass(frozen=True)
class CallForm:
    """A call as a node.

    Attributes:
        kind: What to do with it.
        op: "call_function", "call_method", or "call_module" for a function that only a module can hold.
        target: The function, or the name of the method.
        is_reflected: Whether the node takes the two operands the other way round.
        extra: Arguments to add at the end.
    """

    kind: Kind
    op: str = "call_function"
    target: Any = None
    is_reflected: bool = False
    extra: tuple[Any, ...] = ()


def call_form(function: Callable[..., Any]) -> CallForm:
    """Return how a function that torch hands to ``__torch_function__`` is written down."""
    name = getattr(function, "__name__", "")
    if name in ("__get__", "__set__", "__delete__"):
        return _attribute(name, _attribute_name(function))
    try:
        return _cached(function)
    except TypeError:  # not hashable
        return _form(function)


@functools.lru_cache(maxsize=4096)
def _cached(function: Callable[..., Any]) -> CallForm:
    return _form(function)


def _form(function: Callable[..., Any]) -> CallForm:
    name = getattr(function, "__name__", "")
    method = getattr(torch.Tensor, name, None)
    is_method = method is function or (method is not None and method == function)
    if is_method and name in _METHODS:
        return CallForm(_METHODS[name])
    if is_method and name in _OPERATORS:
        return CallForm(Kind.RECORD, "call_function", _OPERATORS[name])
    if is_method and name in _REFLECTED:
        return CallForm(Kind.RECORD, "call_function", _REFLECTED[name], is_reflected=True)
    if is_method:
        return CallForm(Kind.RECORD, "call_method", name)
    if name in _READING_FUNCTIONS and function in _READING_FUNCTIONS[name]:
        return CallForm(Kind.READ)
    if getattr(function, "__module__", None) == "torch._C" or name in _ASKING_FUNCTIONS:
        return CallForm(Kind.RUN)
    if not _has_name(function):
        return CallForm(Kind.RECORD, "call_module", function)
    return CallForm(Kind.RECORD, "call_function", function)


def _attribute(accessor: str, name: str) -> CallForm:
    if accessor != "__get__":
        return CallForm(Kind.RUN if name in ("requires_grad", "grad") else Kind.SET)
    if name in ("ndim", "shape"):
        return CallForm(Kind.RANK if name == "ndim" else Kind.SIZE)
    if name in _TENSOR_ATTRIBUTES:
        return CallForm(Kind.RECORD, "call_function", builtins.getattr, extra=(name,))
    return CallForm(Kind.RUN)


def _attribute_name(accessor: Any) -> str:
    described = accessor.__self__
    getter = getattr(described, "fget", None)
    return str(getattr(described, "__name__", None) or getattr(getter, "__name__", ""))


def _has_name(function: Callable[..., Any]) -> bool:
    """Whether a graph's code can name a function, also after it was pickled."""
    if isinstance(function, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return True
    try:
        path = _get_qualified_name(function).split(".")
    except (RuntimeError, AttributeError):
        return False
    found: Any = torch if path[0] == "torch" else None
    for part in path[1:]:
        found = getattr(found, part, None)
    return found is function or found == function


_TENSOR_ATTRIBUTES = ("T", "mT", "H", "mH", "real", "imag", "data", "itemsize", "nbytes")

_METHODS = {
    **dict.fromkeys(
        ("__bool__", "item", "tolist", "numpy", "__array__", "__int__", "__float__", "__index__"), Kind.READ
    ),
    **dict.fromkeys(
        ("__complex__", "__contains__", "equal", "allclose", "is_nonzero", "data_ptr"), Kind.READ
    ),
    **dict.fromkeys(("__dlpack__", "__cuda_array_interface__"), Kind.READ),
    **dict.fromkeys(("dim", "ndimension"), Kind.RANK),
    "__len__": Kind.LENGTH,
    "size": Kind.SIZE,
    **dict.fromkeys(
        (
            *(
                "__repr__",
                "__format__",
                "__hash__",
                "__dir__",
                "__deepcopy__",
                "__reduce_ex__",
                "__setstate__",
            ),
            *("is_floating_point", "is_complex", "is_contiguous", "is_signed", "is_inference", "is_shared"),
            *("is_conj", "is_neg", "is_set_to", "is_same_size", "is_pinned", "get_device", "element_size"),
            *(
                "has_names",
                "requires_grad_",
                "register_hook",
                "retain_grad",
                "backward",
                "storage",
                "untyped_storage",
            ),
            *("_is_view", "stride", "storage_offset", "is_coalesced", "__dlpack_device__"),
        ),
        Kind.RUN,
    ),
}

_OPERATORS = {
    "__getitem__": operator.getitem,
    "__setitem__": setitem_,
    "__eq__": operator.eq,
    "__ne__": operator.ne,
    "__lt__": operator.lt,
    "__le__": operator.le,
    "__gt__": operator.gt,
    "__ge__": operator.ge,
    "__invert__": operator.invert,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__lshift__": operator.lshift,
    "__rshift__": operator.rshift,
    "__floordiv__": operator.floordiv,
    "__pow__": operator.pow,
}

_REFLECTED = {
    "__rsub__": operator.sub,
    "__rpow__": operator.pow,
    "__rdiv__": operator.truediv,
    "__rtruediv__": operator.truediv,
    "__rfloordiv__": operator.floordiv,
    "__rmod__": operator.mod,
    "__rmatmul__": operator.matmul,
    "__rlshift__": operator.lshift,
    "__rrshift__": operator.rshift,
    "__rand__": operator.and_,
    "__ror__": operator.or_,
    "__rxor__": operator.xor,
}

_READING_FUNCTIONS = {
    name: (getattr(torch, name),) for name in ("equal", "allclose", "is_nonzero") if hasattr(torch, name)
}

_ASKING_FUNCTIONS = frozenset(
    (
        *("is_tensor", "is_storage", "is_complex", "is_floating_point", "is_conj", "is_neg", "is_inference"),
        *(
            "is_same_size",
            "numel_",
            "get_device",
            "result_type",
            "can_cast",
            "promote_types",
            "set_printoptions",
        ),
        *(
            "typename",
            "is_grad_enabled",
            "is_inference_mode_enabled",
            "get_default_dtype",
            "_has_compatible_shallow_copy_type",
        ),
        *(
            "manual_seed",
            "seed",
            "get_rng_state",
            "set_rng_state",
            "is_autocast_enabled",
            "compile",
            "parse_type",
        ),
    )
)
