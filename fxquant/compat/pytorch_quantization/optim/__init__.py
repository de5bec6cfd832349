"""What fine-tuning a quantized model needs, by NVIDIA's names."""

__all__: list[str] = []
