"""Code for NVIDIA's pytorch-quantization, from a float network to an ONNX file, with other import lines.

A small residual network learns scikit-learn's digits, is calibrated with each of the four methods, fine-tuned
for one epoch, and exported. It prints what each step does to the accuracy on the held-out third, and how far
ONNX Runtime's result is from the simulation's.

Entropy fails on the images, by its definition: they have 17 levels of grey, so 17 of the 2048 bins hold
anything, and the first 128 bins describe what is in them without any loss. It is made for smooth histograms.
With the whole range for the images it does what the others do.
"""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fxquant.compat.pytorch_quantization import calib, enable_onnx_export, export_onnx, quant_modules
from fxquant.compat.pytorch_quantization import nn as quant_nn
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor

METHODS = {
    "max": {},
    "percentile": {"method": "percentile", "percentile": 99.9},
    "entropy": {"method": "entropy"},
    "mse": {"method": "mse"},
}
BATCH = 64


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + inner)


def resnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        Block(24),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        Block(32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def main() -> None:
    torch.manual_seed(0)
    images, labels = digits()
    training, held_out = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])

    float_model = resnet()
    train(float_model, training, epochs=12, rate=2e-3)
    print(f"float              {accuracy(float_model, held_out):.2%}")

    # Layers that are made from here on quantize; they take float checkpoints.
    quant_nn.QuantConv2d.set_default_quant_desc_input(QuantDescriptor(calib_method="histogram"))
    quant_nn.QuantLinear.set_default_quant_desc_input(QuantDescriptor(calib_method="histogram"))
    quant_nn.QuantAdaptiveAvgPool2d.set_default_quant_desc_input(QuantDescriptor(calib_method="histogram"))
    quant_modules.initialize()
    model = resnet()
    quant_modules.deactivate()
    model.load_state_dict(float_model.state_dict())

    collect(model, training)
    for name, options in METHODS.items():
        load(model, **options)
        print(f"{name:10} calibrated {accuracy(model, held_out):.2%}")
        if name == "entropy":
            model[0].input_quantizer.load_calib_amax("percentile", percentile=100)
            print(f"  but the images {accuracy(model, held_out):.2%}")

    train(model, training, epochs=1, rate=1e-4)
    print(f"fine-tuned         {accuracy(model, held_out):.2%}")
    with tempfile.TemporaryDirectory() as folder:
        export(model, held_out, Path(folder))


def collect(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    """Show some batches to the calibrators, as NVIDIA's user guide does."""
    model.eval()
    for module in quantizers(model):
        module.disable_quant()
        module.enable_calib()
    with torch.no_grad():
        for images, _ in list(batches(*data))[:8]:
            model(images)
    for module in quantizers(model):
        module.enable_quant()
        module.disable_calib()


def load(model: nn.Module, **options: object) -> None:
    for module in quantizers(model):
        is_max = isinstance(module._calibrator, calib.MaxCalibrator)  # weights, per channel
        if is_max:
            module.load_calib_amax()
        elif options:
            module.load_calib_amax(**options)
        else:
            module.load_calib_amax("percentile", percentile=100)  # of a histogram: its last edge


def export(model: nn.Module, data: tuple[Tensor, Tensor], folder: Path) -> None:
    """Export twice: as before, and with the weights as integers; run both files."""
    model.eval()
    images, labels = data
    names = {"input_names": ["images"], "output_names": ["scores"]}
    varying = ({0: torch.export.Dim("batch")},)
    with enable_onnx_export():
        torch.onnx.export(
            model, (images[:2],), folder / "before.onnx", dynamic_shapes=varying, verbose=False, **names
        )
    export_onnx(model, images[:2], folder / "now.onnx", dynamic_shapes=varying, opset_version=18, **names)

    with torch.no_grad():
        simulated = model(images).numpy()
    for name in ("before.onnx", "now.onnx"):
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {"images": images.numpy()})
        same = np.mean(scores.argmax(1) == simulated.argmax(1))
        size = sum(path.stat().st_size for path in folder.glob(f"{name}*")) / 1024
        print(
            f"{name:11} {size:4.0f} KB  {np.mean(scores.argmax(1) == labels.numpy()):.2%}, "
            f"{same:.2%} of the answers are those simulated, "
            f"scores differ by {np.abs(scores - simulated).max():.1e}"
        )


def quantizers(model: nn.Module) -> Iterator[quant_nn.TensorQuantizer]:
    return (module for module in model.modules() if isinstance(module, quant_nn.TensorQuantizer))


def digits() -> tuple[Tensor, Tensor]:
    """Return 1797 images [N, 1, 8, 8] in [0, 1], shuffled, and their labels."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images.astype(np.float32)).unsqueeze(1) / 16
    return images[order], torch.from_numpy(data.target)[order]


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images.split(BATCH), labels.split(BATCH), strict=True)


def train(model: nn.Module, data: tuple[Tensor, Tensor], epochs: int, rate: float) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(epochs):
        for images, labels in batches(*data):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return (model(data[0]).argmax(1) == data[1]).float().mean().item()


if __name__ == "__main__":
    main()
