"""Putting quantized layers in the place of torch's, for models that are yet to be built.

``initialize()`` replaces classes in ``torch.nn`` itself, for the whole process, until ``deactivate()``.
Models that exist stay as they are, and so does code that took a class out of ``torch.nn`` before.
"""

import logging
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import torch

from fxquant.compat.pytorch_quantization import nn as quant_nn
from fxquant.errors import OptionError

__all__ = ["deactivate", "initialize"]


class _Replacement(NamedTuple):
    """A class, and the name in a Python module that is to mean it. A tuple: users write them as such."""

    orig_mod: Any
    mod_name: str
    replace_mod: type


_DEFAULT_QUANT_MAP = [
    _Replacement(torch.nn, name, getattr(quant_nn, f"Quant{name}"))
    for name in (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
        "LSTM",
        "LSTMCell",
        "AvgPool1d",
        "AvgPool2d",
        "AvgPool3d",
        "AdaptiveAvgPool1d",
        "AdaptiveAvgPool2d",
        "AdaptiveAvgPool3d",
    )
]

CustomMap = Iterable[tuple[ModuleType | type, str, type]]
"""(where a class is, its name there, what takes its place)."""

log = logging.getLogger(__name__)


class QuantModuleReplacementHelper:
    """Replaces classes in Python modules, and remembers what was there."""

    def __init__(self) -> None:
        self._replacements: list[_Replacement] = []
        self._replaced: list[_Replacement] = []

    def prepare_state(
        self, float_module_list: Iterable[str] | None = None, custom_map: CustomMap | None = None
    ) -> None:
        """Choose what to replace; arguments as of ``initialize``.

        Raises:
            OptionError: If a custom replacement has no class to replace.
        """
        kept = set(float_module_list or ())
        custom = [_Replacement(*entry) for entry in custom_map or ()]
        for entry in custom:
            if not hasattr(entry.orig_mod, entry.mod_name):
                raise OptionError(f"{entry.orig_mod} has no {entry.mod_name} to replace.")
        unknown = kept - {entry.mod_name for entry in _DEFAULT_QUANT_MAP}
        if unknown:
            log.warning("Never replaced, so no need to keep them: %s.", ", ".join(sorted(unknown)))
        defaults = [entry for entry in _DEFAULT_QUANT_MAP if entry.mod_name not in kept]
        self._replacements = defaults + custom  # custom ones last: they win

    def apply_quant_modules(self) -> None:
        """Replace what was chosen."""
        for entry in self._replacements:
            before = getattr(entry.orig_mod, entry.mod_name)
            self._replaced.append(entry._replace(replace_mod=before))
            setattr(entry.orig_mod, entry.mod_name, entry.replace_mod)

    def restore_float_modules(self) -> None:
        """Put everything back that was ever replaced, in the reverse order."""
        while self._replaced:
            setattr(*self._replaced.pop())


_HELPER = QuantModuleReplacementHelper()


def initialize(
    float_module_list: Iterable[str] | None = None, custom_quant_modules: CustomMap | None = None
) -> None:
    """Have torch.nn give quantized layers: all but MaxPool and InstanceNorm.

    Args:
        float_module_list: Names of those to leave as they are.
        custom_quant_modules: More classes to replace, also where the first list names them.

    Raises:
        OptionError: If a custom replacement has no class to replace.

    >>> initialize(float_module_list=["Linear"])
    >>> type(torch.nn.Conv2d(3, 8, 3)).__name__, type(torch.nn.Linear(3, 8)).__name__
    ('QuantConv2d', 'Linear')
    >>> deactivate()
    >>> type(torch.nn.Conv2d(3, 8, 3)).__name__
    'Conv2d'
    """
    _HELPER.prepare_state(float_module_list, custom_quant_modules)
    _HELPER.apply_quant_modules()


def deactivate() -> None:
    """Have torch.nn give its own layers again; models built meanwhile keep theirs."""
    _HELPER.restore_float_modules()
