"""compare_output: count how an output of the reference differs from a runtime's."""

import numpy as np

from fxquant.analysis.parity_report import OutputParity
from fxquant.errors import BatchError


def compare_output(output: OutputParity, reference: np.ndarray, deployed: np.ndarray) -> None:
    """Count differences end to end.

    Args:
        output: Where to count.
        reference: What the reference gives.
        deployed: What the file gives as it is deployed.

    Raises:
        BatchError: If the sizes differ.
    """
    check_sizes(output.name, reference, deployed)
    output.max_difference = max(output.max_difference, largest_difference(reference, deployed))
    finite = reference[np.isfinite(reference)] if reference.dtype.kind == "f" else reference[:0]
    output.range = max(output.range, float(np.ptp(finite)) if finite.size else 0.0)
    output.nonfinite += sum(int(np.count_nonzero(~np.isfinite(side))) for side in (reference, deployed))
    rows = reference.reshape(-1, reference.shape[-1] if reference.ndim else 1)
    output.samples += rows.shape[0]
    output.same_top1 += int((rows.argmax(-1) == deployed.reshape(rows.shape).argmax(-1)).sum())


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest absolute difference; infinite where one side alone is NaN or infinite."""
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    is_same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        difference = np.where(is_same, 0.0, np.abs(first - second))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(initial=0.0))


def check_sizes(name: str, reference: np.ndarray, runtime: np.ndarray) -> None:
    """Check that a tensor has the same sizes on both sides: they may depend on random numbers.

    Raises:
        BatchError: If it has not.
    """
    if reference.shape != runtime.shape:
        raise BatchError(
            f"Tensor '{name}' has the sizes {reference.shape} in the simulation, but "
            f"{runtime.shape} in the file: they depend on random numbers or on a threshold.",
            remedy="Compare the parts of the model whose sizes do not depend on data.",
        )
