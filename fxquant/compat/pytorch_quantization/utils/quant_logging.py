"""quant_logging: whose handlers the messages of this package go to."""

import logging

_NAME = "fxquant.compat.pytorch_quantization"


def reset_logger_handler() -> None:
    """Remove this package's own log handlers, so that its messages reach the application's alone.

    NVIDIA's package logs through absl and has to take absl's handler back. Here messages go to the logger
    "fxquant.compat.pytorch_quantization", which has no handler unless somebody adds one.
    """
    logger = logging.getLogger(_NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
