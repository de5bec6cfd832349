"""quant_logging: the package has no handlers of its own left."""

import logging

from fxquant.compat.pytorch_quantization.utils import quant_logging


def test_messages_go_to_the_application_again():
    logger = logging.getLogger("fxquant.compat.pytorch_quantization")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    quant_logging.reset_logger_handler()
    assert logger.handlers == []
    assert logger.propagate
