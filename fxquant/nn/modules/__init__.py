"""AIMET's place for the custom modules, so that code written for it finds them."""

from fxquant.nn import custom

__all__ = ["custom"]
