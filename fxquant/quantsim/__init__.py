"""QuantizationSimModel and what belongs to it, by AIMET's names, over fxquant's own compiler."""

from fxquant.quantsim import config_utils
from fxquant.quantsim.config import CONFIGS, SimConfig, load_config
from fxquant.quantsim.placement import QuantizationDataType
from fxquant.quantsim.schemes import QuantScheme
from fxquant.quantsim.sim_model import (
    QuantizationSimModel,
    load_checkpoint,
    load_encodings_to_sim,
    save_checkpoint,
)

encoding_version = "1.0.0"
"""Format of the encodings that ``QuantizationSimModel.export`` writes: 0.6.1, 1.0.0, 2.0.0 or 2.1.0."""

__all__ = [
    "CONFIGS",
    "QuantScheme",
    "QuantizationDataType",
    "QuantizationSimModel",
    "SimConfig",
    "config_utils",
    "encoding_version",
    "load_checkpoint",
    "load_config",
    "load_encodings_to_sim",
    "save_checkpoint",
]
