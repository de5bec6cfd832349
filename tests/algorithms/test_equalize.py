"""Equalization: the function stays, whatever lies between the layers, and the grids of weights gain."""

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import fxquant
from fxquant.algorithms import Equalize, parse
from fxquant.calibration import CalibrationInterpreter
from fxquant.errors import BatchError, OptionError
from fxquant.graph import Stage, get_record
from fxquant.graph.norm_note import norm_note
from fxquant.nn import QuantizationMixin
from fxquant.quantization import QuantizationSpec
from fxquant.quantization.of_spec import quantizer_of

Forward = Callable[[nn.ModuleDict, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self._run = nn.ModuleDict(layers), forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(self.layers, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def plain(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](F.relu(m["a"](x)))


def triple(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["c"](F.relu(m["b"](F.relu(m["a"](x)))))


def residual(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = m["a"](x)
    x = F.leaky_relu(x + m["b"](F.relu(x)))
    return m["d"](x + m["c"](x))


def pooled(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = F.max_pool2d(F.avg_pool2d(F.relu(m["a"](x)), 2), 2)
    return m["fc"](m["drop"](x).flatten(1))


def viewed(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = m["a"](x).relu()
    return m["fc"](x.view(x.size(0), -1))


def averaged(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["fc"](m["a"](x).relu().mean((2, 3)))


def joined(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    both = torch.cat([F.relu(m["a"](x)), x, m["b"](x)], 1)
    first, second = both.split([6, 9], 1)
    return m["c"](first) + m["d"](second)


def shuffled(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](F.pixel_shuffle(F.channel_shuffle(m["a"](x), 2), 2))


def shared(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(m["a"](x))
    return m["c"](F.relu(m["b"](F.relu(m["b"](x)))))


def gated(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(m["a"](x))
    return m["c"](x * torch.sigmoid(m["b"](x.mean((2, 3), keepdim=True))))


def normed(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = m["norm"](x.flatten(2).transpose(1, 2))
    return m["a"](x) + m["b"](x)


CASES: dict[str, tuple[Net, list[str]]] = {
    "convolutions": (Net(plain, a=conv(3, 8), b=conv(8, 4)), ["a, b"]),
    "depthwise between": (Net(triple, a=conv(3, 8), b=conv(8, 8, groups=8), c=conv(8, 4)), ["a, b", "b, c"]),
    "groups": (Net(triple, a=conv(3, 8), b=conv(8, 12, groups=4), c=conv(12, 4)), ["a, b", "b, c"]),
    "depth multiplier": (Net(triple, a=conv(3, 8), b=conv(8, 16, groups=8), c=conv(16, 4)), ["a, b", "b, c"]),
    "transposed": (
        Net(
            triple,
            a=conv(3, 8),
            b=nn.ConvTranspose2d(8, 12, 2, stride=2, groups=2),
            c=nn.ConvTranspose2d(12, 4, 3),
        ),
        ["a, b", "b, c"],
    ),
    "prelu": (
        Net(lambda m, x: m["b"](m["p"](m["a"](x))), a=conv(3, 8), p=nn.PReLU(8), b=conv(8, 4)),
        ["a, b"],
    ),
    "residual": (
        Net(residual, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(8, 4)),
        ["a, b, c, d"],
    ),
    "pools and flatten": (Net(pooled, a=conv(3, 8), drop=nn.Dropout(), fc=nn.Linear(32, 5)), ["a, fc"]),
    "view": (Net(viewed, a=conv(3, 8), fc=nn.Linear(512, 5)), ["a, fc"]),
    "mean": (Net(averaged, a=conv(3, 8), fc=nn.Linear(8, 5)), ["a, fc"]),
    "cat and split": (
        Net(joined, a=conv(3, 8), b=conv(3, 4), c=conv(6, 4), d=conv(9, 4)),
        ["a, b, c, d", "a, c, d"],
    ),
    "shuffles": (Net(shuffled, a=conv(3, 8), b=conv(2, 4)), ["a, b"]),
    "a layer called twice": (Net(shared, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4)), ["a, b, c"]),
    "gate": (Net(gated, a=conv(3, 8), b=conv(8, 8, 1), c=conv(8, 4)), ["a, b, c"]),
    "layer norm": (Net(normed, norm=nn.LayerNorm(3), a=nn.Linear(3, 6), b=nn.Linear(3, 6)), ["norm, a, b"]),
    "linears": (
        Net(lambda m, x: m["b"](F.relu(m["a"](x))), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
        ["a, b"],
    ),
}
cases = pytest.mark.parametrize(("net", "sites"), CASES.values(), ids=CASES)


def uneven(net: nn.Module) -> nn.Module:
    """Give the output channels of every weight ranges from 1/16 to 16 times what they were."""
    with torch.no_grad():
        for parameter in net.parameters():
            shape = [parameter.shape[0], *[1] * (parameter.dim() - 1)]
            parameter.mul_(torch.exp2(torch.empty(shape).uniform_(-4, 4)))
    return net


def images() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8)


def in_float(gm: fx.GraphModule, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = CalibrationInterpreter(gm).run_all(x)
    return output


def assert_like(found: torch.Tensor, wanted: torch.Tensor) -> None:
    # float32 sums of some 100 products, each rounded to 2^-24
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@cases
def test_the_function_stays(net: Net, sites: list[str]) -> None:
    x = images()
    gm = fxquant.prepare(uneven(net).eval(), x, target="generic")
    before = in_float(gm, x)
    report = Equalize()(gm)
    changed = [site.layer.replace("layers.", "") for site in report.applied]
    assert set(changed) <= set(sites)
    assert changed
    assert_like(in_float(gm, x), before)
    assert_like(in_float(gm, x[:1]), before[:1])


@cases
def test_factors_that_are_powers_of_two_leave_the_same_bits(net: Net, sites: list[str]) -> None:
    x = images()
    gm = fxquant.prepare(uneven(net).eval(), x, target="generic")
    before = in_float(gm, x)
    Equalize(powers_of_two=True)(gm)
    assert torch.equal(in_float(gm, x), before)


def test_both_weights_take_up_like_shares_of_their_ranges() -> None:
    net = uneven(Net(plain, a=conv(3, 8), b=conv(8, 4)))
    gm = fxquant.prepare(net, images(), target="generic")
    Equalize()(gm)
    first, second = (gm.get_submodule(f"layers.{name}").weight for name in "ab")
    written = first.abs().amax((1, 2, 3)) / first.abs().max()
    read = second.abs().amax((0, 2, 3)) / second.abs().max()
    # 20 iterations leave what float32 rounds of a weight and of the largest one
    torch.testing.assert_close(written, read, rtol=1e-5, atol=0.0)


def per_tensor(gm: fx.GraphModule) -> fx.GraphModule:
    for module in gm.modules():
        if isinstance(module, QuantizationMixin) and "weight" in module.param_quantizers:
            module.param_quantizers["weight"] = quantizer_of(QuantizationSpec(bitwidth=8, narrow=True))
    return gm


def noise(gm: fx.GraphModule, x: torch.Tensor, wanted: torch.Tensor) -> float:
    fxquant.calibrate(gm, [x], progress=False)
    with torch.no_grad():
        return float((gm(x) - wanted).square().sum() / wanted.square().sum())


def test_noise_of_a_model_with_uneven_channels_is_lowered() -> None:
    net = Net(triple, a=conv(3, 16), b=conv(16, 16, groups=16), c=conv(16, 8)).eval()
    x = torch.randn(16, 3, 8, 8)
    wanted = net(x).detach()
    first, second = (torch.exp2(torch.empty(16).uniform_(-4, 4)) for _ in range(2))
    a, b, c = net.layers.values()
    with torch.no_grad():  # the function stays
        a.weight.mul_(first.reshape(-1, 1, 1, 1)), a.bias.mul_(first)
        b.weight.mul_((second / first).reshape(-1, 1, 1, 1)), b.bias.mul_(second)
        c.weight.div_(second.reshape(1, -1, 1, 1))
    assert_like(net(x).detach(), wanted)
    gm = per_tensor(fxquant.prepare(net, x, target="generic"))
    before = noise(gm, x, wanted)
    Equalize()(gm)
    assert noise(gm, x, wanted) < before / 20


def test_even_channels_are_left_alone() -> None:
    net = Net(plain, a=conv(3, 8), b=conv(8, 4))
    for name in "ab":
        with torch.no_grad():
            net.layers[name].weight.sign_()
    gm = fxquant.prepare(net, images(), target="generic")
    before = {name: value.clone() for name, value in gm.named_parameters()}
    (site,) = [site for site in Equalize()(gm).sites if "," in site.layer]
    assert not site.applied
    assert site.reason == "its channels have like ranges"
    assert all(torch.equal(value, before[name]) for name, value in gm.named_parameters())


def clipped(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](F.relu6(m["a"](x)))


def softmaxed(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](torch.softmax(m["a"](x), 1))


def shifted(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](m["a"](x) + 1.0)


def across(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return m["b"](m["a"](x).mean(1, keepdim=True))


def read_twice(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(m["b"](F.relu(m["a"](x))), m["a"].weight.transpose(0, 1).contiguous())


@pytest.mark.parametrize(
    ("forward", "width", "reason"),
    [
        (clipped, 8, "'relu6' does not let a factor for each channel pass"),
        (softmaxed, 8, "'softmax' does not let a factor for each channel pass"),
        (shifted, 8, "'add' does not let a factor for each channel pass"),
        (across, 1, "'mean' does not let a factor for each channel pass"),
        (read_twice, 8, "something else reads its parameters too"),
    ],
    ids=["clip", "softmax", "number added", "mean over channels", "weight read elsewhere"],
)
def test_what_lets_no_factor_pass_is_declined(forward: Forward, width: int, reason: str) -> None:
    x = images()
    gm = fxquant.prepare(Net(forward, a=conv(3, 8), b=conv(width, 8)), x, target="generic")
    before = in_float(gm, x)
    report = Equalize()(gm)
    assert report.applied == []
    assert reason in [site.reason for site in report.declined if site.layer == "layers.a"]
    assert torch.equal(in_float(gm, x), before)


def test_a_clip_is_replaced_on_request() -> None:
    x = images()
    net = uneven(Net(clipped, a=conv(3, 8), b=conv(8, 4)))
    unclipped = Net(plain, **net.layers)
    gm = fxquant.prepare(net, x, target="generic")
    report = Equalize(replace_clips=True)(gm)
    assert [site.reason for site in report.applied][-1] == "'relu6' has no upper end any more"
    assert_like(in_float(gm, x), unclipped(x).detach())
    fxquant.calibrate(gm, [x], progress=False)
    assert fxquant.convert(gm)(x).shape == (2, 4, 8, 8)


def test_a_weight_whose_range_is_fixed_is_left_alone() -> None:
    gm = fxquant.prepare(uneven(Net(plain, a=conv(3, 8), b=conv(8, 4))), images(), target="generic")
    gm.get_submodule("layers.b").param_quantizers["weight"].allow_overwrite(False)
    report = Equalize()(gm)
    assert report.applied == []
    assert "the range of the weight of 'layers.b' is fixed" in [site.reason for site in report.declined]


def test_channels_that_are_zero_stay_as_they_are() -> None:
    net = uneven(Net(plain, a=conv(3, 8), b=conv(8, 4)))
    with torch.no_grad():
        net.layers["a"].weight[2] = 0.0
        net.layers["b"].weight[:, 5] = 0.0
    gm = fxquant.prepare(net, images(), target="generic")
    bias = gm.get_submodule("layers.a").bias.detach().clone()
    Equalize()(gm)
    now = gm.get_submodule("layers.a").bias
    assert torch.equal(now[[2, 5]], bias[[2, 5]])
    assert all(bool(parameter.isfinite().all()) for parameter in gm.parameters())


def test_notes_of_folded_norms_are_scaled_too() -> None:
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 0.1, 4.0)
    nn.init.normal_(norm.bias)
    net = Net(lambda m, x: m["b"](F.relu(m["n"](m["a"](x)))), a=conv(3, 8), n=norm, b=conv(8, 4)).eval()
    gm = fxquant.prepare(net, images(), target="generic")
    layer = gm.get_submodule("layers.a")
    bias, note = layer.bias.detach().clone(), norm_note(layer)
    assert note is not None
    assert torch.equal(note.mean, norm.bias)
    assert torch.equal(note.std, norm.weight)
    Equalize()(gm)
    # quotients of numbers in float32, each rounded once or twice
    torch.testing.assert_close(note.mean / norm.bias, layer.bias / bias, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(note.std / norm.weight, layer.bias / bias, rtol=1e-6, atol=0.0)


def test_a_model_captured_without_an_example_takes_a_batch() -> None:
    gm = fxquant.prepare(uneven(Net(plain, a=conv(3, 8), b=conv(8, 4))), target="generic")
    assert get_record(gm, Stage.PREPARED).example is None
    with pytest.raises(BatchError, match="example_inputs"):
        Equalize()(gm)
    assert Equalize()(gm, [images()]).applied


def test_options_are_checked_and_print_as_text() -> None:
    with pytest.raises(OptionError, match="positive"):
        Equalize(iterations=0)
    assert parse("equalize{iterations=3 powers_of_two=true}") == (Equalize(iterations=3, powers_of_two=True),)
