"""Arithmetics: how a simulation rounds, as sparse tables over the op table."""

from fxquant.arithmetic.arithmetic import Arithmetic, KernelRule
from fxquant.arithmetic.call import Call, Formula
from fxquant.arithmetic.htp_kernels import HTP, HTP_V68
from fxquant.arithmetic.integer import FLOAT, INTEGER
from fxquant.arithmetic.kernel_call import KernelCall
from fxquant.arithmetic.levels import Leveled
from fxquant.errors import unknown_option

ARITHMETICS: dict[str, Arithmetic] = {
    arithmetic.name: arithmetic for arithmetic in (FLOAT, INTEGER, HTP, HTP_V68)
}


def get_arithmetic(name: str) -> Arithmetic:
    """Return the arithmetic with a name.

    Raises:
        OptionError: If there is none; the message suggests the nearest name.
    """
    if name not in ARITHMETICS:
        raise unknown_option("arithmetic", name, ARITHMETICS)
    return ARITHMETICS[name]


__all__ = [
    "ARITHMETICS",
    "FLOAT",
    "HTP",
    "HTP_V68",
    "INTEGER",
    "Arithmetic",
    "Call",
    "Formula",
    "KernelCall",
    "KernelRule",
    "Leveled",
    "get_arithmetic",
]
