"""Export: the only room that knows ONNX; encodings files, written and read."""

from fxquant.export.encodings import DEFAULT_VERSION, VERSIONS, encodings_json
from fxquant.export.files import ExportedFiles, export_files
from fxquant.export.load_encodings import load_into
from fxquant.export.read_encodings import EncodingsFile, read_encodings

__all__ = [
    "DEFAULT_VERSION",
    "VERSIONS",
    "EncodingsFile",
    "ExportedFiles",
    "encodings_json",
    "export_files",
    "load_into",
    "read_encodings",
]
