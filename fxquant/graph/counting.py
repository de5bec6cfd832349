"""MacCounter: multiply-accumulates of what runs outside every graph, inside layers that stay whole."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch is untyped here
    """Counts by the formulas of torch's own counter, while it is told for which layer.

    Attributes:
        macs: Multiply-accumulates, by the layer's dotted path.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch is untyped here
        self.macs: Counter[str] = Counter()
        self._layer: str | None = None

    @contextlib.contextmanager
    def counting_for(self, layer: str | None) -> Iterator[None]:
        """Count for a layer inside the context; for None, do not count."""
        before, self._layer = self._layer, layer
        try:
            yield
        finally:
            self._layer = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket) if self._layer is not None else None
        if formula is not None and self._layer is not None:
            self.macs[self._layer] += formula(*args, **(kwargs or {}), out_val=result) // 2
        return result
