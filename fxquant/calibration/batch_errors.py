"""rejected, not_finite: what is wrong with a batch of calibration data, and in which layer."""

from fxquant.errors import BatchError, NonFiniteError, first_line


def rejected(batch: str, layer: str, error: Exception) -> BatchError:
    """Return the error for a batch that the model does not take.

    Args:
        batch: Which one, in words.
        layer: The user's layer that raised; empty where it is not known.
        error: What it raised.
    """
    return BatchError(
        f"The model rejects {batch}: {first_line(error)}.",
        layer=layer or None,
        remedy="Yield batches of the shape and type that the float model takes.",
    )


def not_finite(index: int, tensor: str, layer: str) -> NonFiniteError:
    """Return the error for a batch that gives NaN or Inf.

    Args:
        index: Its number.
        tensor: The first tensor that holds one.
        layer: The user's layer that gives it; empty where it is not known.
    """
    return NonFiniteError(
        f"NaN or Inf in batch {index} of the calibration data, first in tensor '{tensor}'.",
        layer=layer or None,
        remedy="Remove such values from the data, or mend that layer.",
    )
