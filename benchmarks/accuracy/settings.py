"""The settings of bits that accuracy is measured in. Knows nothing of fxquant."""

SETTINGS = {
    "W8A8": "onnxruntime",
    "W8A16": "onnxruntime:w8a16",
    "W4A8": "onnxruntime:w4a8",
    "W4A16, blocks of 32": "onnxruntime:w4a16",
    "W4, blocks of 32": "onnxruntime:w4",
}
"""What a table calls a setting -> the target and scheme of fxquant that it is."""
