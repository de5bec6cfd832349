"""Compare quantizers with aimet-torch 2.42 on random configurations.

    pip install aimet-torch==2.42.0        # in a scratch environment that also has fxquant
    python -m tests.peers.aimet_quantizers [configurations]

Each configuration draws a quantizer (Quantize or QuantizeDequantize, bitwidth, symmetry, granularity, blocks,
zero-point shift, LPBQ), a tensor (shape, float type, memory format, scale of its values) and compares, bit
for bit: min, max, scale, offset, outputs, and the gradients of input, min and max. It prints how many were
equal and what differed, by kind.
"""

import random
import sys
from collections import Counter
from typing import Any

import torch

from fxquant import quantization as ours
from tests.zoo.torchvision_models import import_torchvision

Config = dict[str, Any]


def draw(rng: random.Random) -> Config:
    """Return a random configuration."""
    kind = rng.choice(
        ["Quantize", "QuantizeDequantize", "QuantizeDequantize", "GroupedBlockQuantizeDequantize"]
    )
    rank = rng.choice([1, 2, 2, 3, 4])
    blocks = [rng.choice([1, 2, 3, 4]) for _ in range(rank)]
    counts = [rng.choice([1, 2, 3, 5]) for _ in range(rank)]
    shape = [b * c for b, c in zip(blocks, counts, strict=True)]
    granularity = "block" if kind.startswith("Grouped") else rng.choice(["tensor", "channel", "block"])
    config: Config = {
        "kind": kind,
        "granularity": granularity,
        "tensor_shape": shape,
        "dtype": rng.choice([torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16]),
        "bitwidth": rng.choice([2, 3, 4, 4, 5, 8, 8, 8, 12, 16, 24, 32]),
        "symmetric": kind.startswith("Grouped") or rng.random() < 0.5,
        "shift": kind == "QuantizeDequantize" and rng.random() < 0.1,
        "narrow": not kind.startswith("Grouped") and rng.random() < 0.2,
        "magnitude": 10.0 ** rng.uniform(-6, 4),
        "values": rng.choice(["normal", "positive", "zero", "equal", "ties"]),
        "transposed": rank > 1 and rng.random() < 0.3,
        "seed": rng.randrange(2**31),
    }
    if granularity == "tensor":
        return config | {"shape": (), "block_size": None}
    if granularity == "channel":
        axis = rng.randrange(rank)
        return config | {
            "shape": tuple(s if i == axis else 1 for i, s in enumerate(shape)),
            "block_size": None,
        }
    sizes = [-1 if rng.random() < 0.3 else b for b in blocks]
    grouping = tuple(rng.choice([1, -1]) for _ in range(rank))
    return config | {"shape": tuple(counts), "block_size": tuple(sizes), "grouping": grouping}


def make(module: Any, config: Config) -> Any:
    """Return the quantizer of a configuration, of either package."""
    cls = getattr(module.affine, config["kind"])
    bits, symmetric = config["bitwidth"], config["symmetric"]
    if config["kind"].startswith("Grouped"):
        return cls(
            config["shape"],
            bits,
            symmetric,
            decompressed_bw=max(bits, min(2 * bits, 31)),
            block_size=config["block_size"],
            block_grouping=config["grouping"],
        )
    extra = {"block_size": config["block_size"]}
    if config["shift"]:
        extra["zero_point_shift"] = 0.5
    if config["narrow"] and symmetric:
        return cls(config["shape"], 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1, symmetric=symmetric, **extra)
    return cls(config["shape"], bits, symmetric=symmetric, **extra)


def draw_tensor(config: Config) -> torch.Tensor:
    """Return the tensor of a configuration."""
    generator = torch.Generator().manual_seed(config["seed"])
    tensor = torch.randn(config["tensor_shape"], generator=generator) * config["magnitude"]
    match config["values"]:
        case "positive":
            tensor = tensor.abs()
        case "zero":
            tensor = torch.zeros_like(tensor)
        case "equal":
            tensor = torch.full_like(tensor, config["magnitude"])
        case "ties":
            tensor = (tensor / config["magnitude"] * 8).round() / 2 * config["magnitude"]
    if config["transposed"]:
        tensor = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    return tensor.to(config["dtype"])


def run(module: Any, config: Config) -> dict[str, Any]:
    """Return everything to compare, or the error."""
    tensor = draw_tensor(config)
    quantizer = make(module, config)
    try:
        with quantizer.compute_encodings():
            quantizer(tensor)
        wider = (tensor.float() * 1.3).to(tensor.dtype).requires_grad_()
        output = quantizer(wider)
        generator = torch.Generator().manual_seed(config["seed"] + 1)
        output.backward(torch.randn(output.shape, generator=generator).to(output.dtype))
    except RuntimeError as error:
        return {"error": "RuntimeError", "text": str(error)}
    return {
        "min": quantizer.min.detach(),
        "max": quantizer.max.detach(),
        "scale": quantizer.get_scale().detach(),
        "offset": quantizer.get_offset().detach(),
        "output": output.detach().as_subclass(torch.Tensor),
        "input gradient": wider.grad,
        "min gradient": quantizer.min.grad,
        "max gradient": quantizer.max.grad,
    }


def outcome(config: Config, peers: Any) -> str:
    """Return "equal", the reason of a difference, or UNEXPLAINED and what differs."""
    mine, theirs = run(ours, config), run(peers, config)
    if "error" in mine or "error" in theirs:
        return "equal" if mine.get("error") == theirs.get("error") else f"UNEXPLAINED error: {mine} {theirs}"
    different = {name for name in mine if not _is_equal(mine[name], theirs[name])}
    if not different:
        return "equal"
    if bool(theirs["scale"].isnan().any()) and not bool(mine["scale"].isnan().any()):
        return "AIMET's range is NaN (a symmetric grid of one step: it divides by zero steps)"
    ends = {name: mine[name].to(config["dtype"]).float() for name in ("min", "max")}
    if config["dtype"] is not torch.float32:
        if all(torch.equal(end, theirs[name]) for name, end in ends.items()):
            return "half tensor: AIMET rounds its range, or the gradient of the range, to the half type"
        return f"UNEXPLAINED {sorted(different)}"
    gradients = {"min gradient", "max gradient"}
    if different <= gradients and config["transposed"]:
        terms = max(mine[name].abs().max().item() for name in gradients) or 1.0
        worst = max((mine[name] - theirs[name]).abs().max().item() for name in gradients)
        if worst <= 1e-5 * terms:
            return "tensor not contiguous: the gradient of the range is summed in another order"
    return f"UNEXPLAINED {sorted(different)}"


def _is_equal(mine: torch.Tensor | None, theirs: torch.Tensor | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return torch.equal(mine.float().nan_to_num(7.7), theirs.float().nan_to_num(7.7))


def main(count: int) -> int:
    """Compare, print, and return 1 if anything differed without a known reason."""
    import_torchvision()
    from aimet_torch import quantization as peers  # installed by hand, see above

    rng, outcomes = random.Random(0), Counter[str]()
    for _ in range(count):
        config = draw(rng)
        found = outcome(config, peers)
        outcomes[found] += 1
        if found.startswith("UNEXPLAINED"):
            print(found, config)
    for found, number in outcomes.most_common():
        print(f"{number:5d}  {found}")
    return int(any(found.startswith("UNEXPLAINED") for found in outcomes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
