"""FakeQuantizationMixin: AIMET's deprecated name of QuantizationMixin, from when it could not run kernels."""

from fxquant.nn.mixin import QuantizationMixin

FakeQuantizationMixin = QuantizationMixin
