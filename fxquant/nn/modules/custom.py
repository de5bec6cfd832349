"""AIMET's name of fxquant.nn.custom: importing this module gives that one."""

import sys

from fxquant.nn import custom

sys.modules[__name__] = custom
