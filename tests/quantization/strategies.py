"""Hypothesis strategies of grids and tensors."""

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fxquant.quantization import AffineEncoding, QuantizationSpec
from fxquant.quantization.functional import scale_and_offset

VALUES = st.floats(-200.0, 200.0, width=32)  # twice the widest range: some are inside a grid, some outside

# Every float32 there is but NaN: zeros of both signs, denormals, the largest values and infinities.
ANY_FLOAT = st.floats(width=32, allow_nan=False)

Layout = Callable[[torch.Tensor], torch.Tensor]

LAYOUTS: dict[str, Layout] = {
    "contiguous": torch.Tensor.contiguous,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "channels-last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda x: x[..., :1].expand_as(x),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}
"""Ways to lay a tensor of four dimensions out in memory."""


def specs(max_bitwidth: int = 16) -> st.SearchStrategy[QuantizationSpec]:
    """Return specs of every signedness and symmetry, from 2 bits up.

    Beyond 24 bits they are symmetric: float32 offsets count no further by ones.
    """
    grids = st.sampled_from([(True, False), (True, True), (False, False)])
    return st.builds(
        lambda bitwidth, grid, symmetric: QuantizationSpec(
            bitwidth=bitwidth, signed=grid[0], narrow=grid[1], symmetric=symmetric or bitwidth > 24
        ),
        st.integers(2, max_bitwidth),
        grids,
        st.booleans(),
    )


def ranges() -> st.SearchStrategy[tuple[float, float]]:
    """Return ranges that hold zero and are at least 1/8 wide, so that no half type underflows."""
    near, far = st.floats(0.0, 100.0, width=32), st.floats(0.125, 100.0, width=32)
    return st.one_of(
        st.builds(lambda a, b: (-a, b), near, far),
        st.builds(lambda a, b: (-b, a), near, far),
    )


def encodings(max_bitwidth: int = 16) -> st.SearchStrategy[AffineEncoding]:
    """Return encodings with one float32 scale."""
    return st.builds(_encoding, specs(max_bitwidth), ranges())


def channel_encodings(channels: int, max_bitwidth: int = 16) -> st.SearchStrategy[AffineEncoding]:
    """Return encodings with float32 scales of shape [channels, 1]."""
    return shaped_encodings((channels, 1), max_bitwidth)


def shaped_encodings(
    shape: tuple[int, ...], max_bitwidth: int = 16, block_size: tuple[int, ...] | None = None
) -> st.SearchStrategy[AffineEncoding]:
    """Return encodings with float32 scales of a shape, each of its own range."""
    count = int(np.prod(shape))
    bounds = st.lists(ranges(), min_size=count, max_size=count)
    return st.builds(
        lambda spec, bounds: _encoding(spec, np.array(bounds).T.reshape(2, *shape), block_size),
        specs(max_bitwidth),
        bounds,
    )


def tensors(elements: st.SearchStrategy[float] = VALUES) -> st.SearchStrategy[torch.Tensor]:
    """Return float32 tensors of up to three dimensions, empty ones included."""
    shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    return arrays(np.float32, shapes, elements=elements).map(lambda array: torch.from_numpy(np.array(array)))


def matrices(rows: int) -> st.SearchStrategy[torch.Tensor]:
    """Return float32 tensors of shape [rows, n], n at least 1."""
    return arrays(np.float32, st.tuples(st.just(rows), st.integers(1, 8)), elements=VALUES).map(
        torch.from_numpy
    )


def tensors_of(shape: tuple[int, ...]) -> st.SearchStrategy[torch.Tensor]:
    """Return float32 tensors of a shape."""
    return arrays(np.float32, shape, elements=VALUES).map(torch.from_numpy)


def _encoding(
    spec: QuantizationSpec,
    bounds: tuple[float, float] | np.ndarray,
    block_size: tuple[int, ...] | None = None,
) -> AffineEncoding:
    minimum, maximum = (torch.as_tensor(bound, dtype=torch.float32) for bound in bounds)
    scale, offset = scale_and_offset(minimum, maximum, spec.qmin, spec.qmax, spec.symmetric)
    return AffineEncoding(scale, offset, spec.qmin, spec.qmax, spec.symmetric, block_size)
