"""AIMET's deprecated names, so that code and tests written for it can be imported."""

from fxquant.nn.fake_quant import _legacy_impl

__all__ = ["_legacy_impl"]
