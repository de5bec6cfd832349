"""NVIDIA's formulas once more, in numpy's float32 and nothing of fxquant's, and tensors to try them on."""

import numpy as np
import torch
from hypothesis import strategies as st

EMPTY = np.float32(2.0**-24)


def codes_and_scale(x, amax, num_bits, unsigned, narrow_range, is_empty=np.less_equal):
    x, amax = np.asarray(x, np.float32), np.asarray(amax, np.float32)
    high = np.float32(2 ** (num_bits - 1 + unsigned) - 1)
    low = np.float32(0) if unsigned else (-high if narrow_range else -high - 1)
    empty = is_empty(amax, EMPTY)
    with np.errstate(divide="ignore"):
        scale = high / amax
    codes = np.minimum(np.maximum(np.rint(x * np.where(empty, np.float32(0), scale)), low), high)
    return codes, np.where(empty, np.float32(1), scale)


def fake(x, amax, *arguments, **options):
    codes, scale = codes_and_scale(x, amax, *arguments, **options)
    return codes / scale


def fake_e4m3(x, amax):
    scale = np.float32(448) / np.asarray(amax, np.float32)
    ratio = torch.from_numpy(np.clip(x * scale, -448, 448)).to(torch.float8_e4m3fn).float().numpy()
    return np.where(np.abs(x) < EMPTY, np.float32(0), ratio / scale)


@st.composite
def tensors(draw, unsigned=False):
    """float32 arrays [n, 4] of one magnitude or of many, with zeros and middles between two codes."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = generator.standard_normal((draw(st.integers(1, 40)), 4)).astype(np.float32)
    x *= np.float32(10.0) ** generator.integers(-draw(st.integers(1, 9)), draw(st.integers(1, 9)), x.shape)
    x = np.where(generator.random(x.shape) < 0.1, np.float32(0), x).astype(np.float32)
    x = np.where(generator.random(x.shape) < 0.2, np.rint(x) + np.float32(0.5), x).astype(np.float32)
    return np.abs(x) if unsigned else x


@st.composite
def grids(draw):
    """num_bits, unsigned, narrow_range."""
    return draw(st.integers(2, 12)), draw(st.booleans()), draw(st.booleans())


@st.composite
def amaxes(draw, smallest=0.0):
    """float32 arrays of ranges, some of them empty, that broadcast against ``tensors``."""
    shape = draw(st.sampled_from([(), (1, 1), (1, 4), (4,)]))
    numbers = st.one_of(
        st.floats(2.0**-40, 2.0**40, width=32),
        st.sampled_from([0.0, float(EMPTY), float(EMPTY) * 1.5, 127.0, 1.0]),
    )
    count = int(np.prod(shape))
    values = draw(st.lists(numbers, min_size=count, max_size=count))
    return np.maximum(np.array(values, np.float32).reshape(shape), np.float32(smallest))
