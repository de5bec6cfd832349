"""Accuracy after quantization: models trained here, what is measured on them, ours beside peers."""
