"""model_inputs: the inputs of one call of a model, for algorithms that need shapes."""

from typing import Any

from torch import fx

from fxquant.algorithms.context import Context
from fxquant.calibration import Signature, as_batches, calls_of
from fxquant.calibration.batches import no_batch
from fxquant.errors import BatchError
from fxquant.graph import Stage, get_record


def model_inputs(gm: fx.GraphModule, context: Context) -> list[Any]:
    """Return the inputs of the call that the model's record holds, or else of the first batch.

    Raises:
        BatchError: If there is neither.
    """
    signature, example = Signature(gm), get_record(gm, Stage.PREPARED).example
    if example is None and context.batches is None:
        raise BatchError(
            "The model was captured without an example, so the shapes of its tensors are not known.",
            remedy="Pass batches, or example_inputs to prepare, or calibrate the model before.",
        )
    call = example
    if call is None:
        call = next(iter(calls_of(as_batches(context.batches), signature)), None)
    if call is None:
        raise no_batch()
    return list(signature.bind(call).values())
