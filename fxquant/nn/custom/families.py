"""The forwards of custom modules that are not the standard one."""

from collections.abc import Callable, Iterable
from typing import Any

from fxquant.errors import QuantizerError
from fxquant.nn.custom.indexing import as_tensors
from fxquant.nn.standard import StandardForward


class FunctionalBatchNorm(StandardForward):
    """The forward of custom.BatchNorm, whose running statistics are inputs."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        """Run the batch norm.

        Raises:
            QuantizerError: If it is to update running statistics that are quantized.
        """
        is_training = kwargs.get("training", inputs[5] if len(inputs) > 5 else False)
        if is_training and any(quantizer is not None for quantizer in list(self.input_quantizers)[1:3]):
            raise QuantizerError(
                "Running statistics that are quantized cannot be updated.",
                remedy="Remove input_quantizers[1] and [2], or call the module with training=False.",
            )
        return super().compute(parameters, *inputs, **kwargs)


class Scatter(StandardForward):
    """The forward of custom.ScatterElements, which takes lists for tensors."""

    def _quantized_inputs(self, inputs: Iterable[Any], apply: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
        return super()._quantized_inputs(as_tensors(*inputs), apply)
