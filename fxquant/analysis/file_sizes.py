"""FileSizes: which batches a file of fixed sizes takes."""

from pathlib import Path

from fxquant.errors import BatchError
from fxquant.runtimes import Arrays, input_sizes


class FileSizes:
    """Counts batches, and those of another number of rows than a file is fixed to.

    Args:
        path: The ONNX file.

    Attributes:
        used: Number of batches that fit.
        skipped: Number of batches that have other numbers of rows, such as the last one of a data set.
    """

    def __init__(self, path: Path) -> None:
        self._sizes = input_sizes(path)
        self.used = 0
        self.skipped = 0

    def fit(self, feeds: Arrays) -> bool:
        """Count a batch and return whether it has the file's number of rows; the runtime checks the rest."""
        fits = all(
            not sizes or not feeds[name].shape or sizes[0] in (None, feeds[name].shape[0])
            for name, sizes in self._sizes.items()
            if name in feeds
        )
        self.used += fits
        self.skipped += not fits
        return fits

    def check(self) -> None:
        """Check that something was compared.

        Raises:
            BatchError: If no batch fits, or there is none.
        """
        if self.skipped and not self.used:
            rows = next((sizes[0] for sizes in self._sizes.values() if sizes and sizes[0]), None)
            raise BatchError(
                f"The file is fixed to batches of {rows}, and no batch of the data has that size."
            )
        if not self.used:
            raise BatchError(
                "The data holds no batch.", remedy="Pass a list or DataLoader that is not used up."
            )
