"""Export: the only room that knows ONNX."""

from fxquant.export.files import ExportedFiles, export_files

__all__ = ["ExportedFiles", "export_files"]
