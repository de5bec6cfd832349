"""Exported programs: aten's operators become calls of torch, with the names of the user's layers."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.graph import capture, capture_notes
from fxquant.graph.annotations import layer_of
from fxquant.graph.values import op_of


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.act, self.pool = nn.Hardswish(inplace=True), nn.MaxPool2d(2)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.act(self.norm(self.conv(x))))


class Network(nn.Module):
    """What exported programs hold: layers, functions, views, attention, embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.up = Block(), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.norm, self.group = nn.LayerNorm(8), nn.GroupNorm(2, 8)
        self.qkv, self.table, self.head = nn.Linear(8, 24), nn.Embedding(4, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        x = self.group(self.up(self.block(x)))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") + F.pad(x, (0, 16, 0, 16))
        x = F.adaptive_avg_pool2d(x, (4, 4))
        tokens = self.norm(x.flatten(2).transpose(1, 2)) + self.table(which)[:, None]
        q, k, v = self.qkv(tokens).reshape(x.shape[0], 16, 3, 8).unbind(2)
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return self.head(F.gelu(attended[:, 1:]).mean(1)).softmax(-1)


INPUTS = (torch.randn(2, 3, 32, 32), torch.tensor([1, 3]))
PROGRAMS = {
    "training": lambda: torch.export.export(Network().eval(), INPUTS, strict=False),
    "core aten": lambda: torch.export.export(Network().eval(), INPUTS, strict=False).run_decompositions(),
}
programs = pytest.mark.parametrize("name", PROGRAMS)


@programs
def test_every_operator_becomes_a_call_that_the_op_table_knows(name: str) -> None:
    program = PROGRAMS[name]()
    gm = capture(program)
    calls = [node for node in gm.graph.nodes if node.op == "call_function"]
    left = [node.name for node in calls if isinstance(node.target, torch._ops.OpOverload)]
    unknown = [
        node.name for node in calls if op_of(gm, node) is None and node.target is not operator.floordiv
    ]
    assert (left, unknown) == ([], [])
    torch.testing.assert_close(gm(*INPUTS), program.module()(*INPUTS))


@programs
def test_layers_keep_their_names(name: str) -> None:
    gm = capture(PROGRAMS[name]())
    layers = {layer_of(node) for node in gm.graph.nodes}
    assert {"block.conv", "block.norm", "block.act", "up", "qkv", "head"} <= layers


@programs
def test_an_exported_program_is_quantized_like_its_model(name: str, tmp_path) -> None:
    program = PROGRAMS[name]()
    prepared = fxquant.prepare(program, target="onnxruntime")
    of_program = fxquant.report(prepared)
    of_model = fxquant.report(fxquant.prepare(Network(), INPUTS, target="onnxruntime"))
    assert of_program.coverage.share_of_macs == of_model.coverage.share_of_macs > 0.7
    assert of_program.applied("fold-batch-norm")
    fxquant.calibrate(prepared, [INPUTS])
    quantized = fxquant.convert(prepared)
    files = fxquant.export(quantized, tmp_path)
    assert fxquant.verify(quantized, files, [INPUTS]).max_steps <= 1
    assert '"block.conv.weight"' in files.encodings.read_text()


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_is_counted_as_in_the_model(kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = kind(8, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.rnn(x)[0])

    model, x = Recurrent().eval(), torch.randn(2, 5, 8)
    macs = [
        fxquant.report(fxquant.prepare(given, (x,), target="onnxruntime")).coverage.macs
        for given in (model, torch.export.export(model, (x,), strict=False))
    ]
    assert macs[0] == macs[1] > 2 * 5 * 6 * 2


def test_an_operator_without_a_counterpart_stays() -> None:
    class Rare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten.trace.default(x) + torch.ops.aten.relu.default(x)

    gm = capture(Rare())
    assert torch.ops.aten.trace.default in [node.target for node in gm.graph.nodes]
    assert gm(torch.eye(3)).sum() == 3 * 9 + 3


IMAGE = torch.randn(2, 4, 8, 8)
SINGLE = {
    "elu": lambda x: F.elu(x, 0.5) + F.selu(x),
    "max pools": lambda x: F.adaptive_max_pool2d(x, 2) + F.max_pool2d(x, 4),
    "unpool": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "losses": lambda x: F.mse_loss(x, x * 2) + F.l1_loss(x, x * 2, reduction="sum") + F.huber_loss(x, -x),
    "fold": lambda x: F.fold(F.unfold(x, 2), (8, 8), 2),
    "index_add": lambda x: x.index_add(1, torch.tensor([0]), x[:, :1], alpha=2),
    "views": lambda x: x.unflatten(1, (2, 2)).flatten(0, 1).select(1, -1)[..., -3:].movedim(-1, 0),
    "chunks": lambda x: torch.tensor_split(x, 3, 1)[0].sum() + x.chunk(3, 1)[1] + x.split(2, 1)[1].mean(),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, size=(5, 7), mode="bicubic"),
    "in place": lambda x: x.clone().mul_(2).clamp_(min=-1).relu_().add_(1),
    "norms": lambda x: F.layer_norm(x, (8,), eps=1e-2) + F.group_norm(x, 2, eps=1e-2) + F.normalize(x, dim=1),
    "mixed": lambda x: torch.where(x > 0, x, -x).masked_fill(x > 1, 2.0) + F.pad(x, (1, -1)).cumsum(1),
    "products": lambda x: torch.einsum("bchw,bcwv->bhv", x, x) + torch.baddbmm(x[:, 0], x[:, 1], x[:, 2]),
    "type": lambda x: F.softmax(x, 1, dtype=torch.float64),
}


@pytest.mark.parametrize("decomposed", [False, True], ids=["training", "core aten"])
@pytest.mark.parametrize("name", SINGLE)
def test_single_operators_are_captured_as_they_are(name: str, decomposed: bool) -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SINGLE[name](x)

    program = torch.export.export(Single(), (IMAGE,), strict=False)
    gm = capture(program.run_decompositions() if decomposed else program)
    notes = capture_notes(gm)
    assert (notes.opaque, notes.failure) == ((), "")
    torch.testing.assert_close(gm(IMAGE), program.module()(IMAGE))
