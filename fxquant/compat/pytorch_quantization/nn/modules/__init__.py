"""The files of ``nn``, by NVIDIA's names."""

__all__: list[str] = []
