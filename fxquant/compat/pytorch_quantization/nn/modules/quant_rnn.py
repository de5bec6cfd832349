"""LSTMs whose matrix products have quantized inputs and weights.

A step quantizes [x, h] as one tensor and [w_ih, w_hh] as one, with one quantizer each. Gates, biases and the
cell state are not quantized.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fxquant.compat.pytorch_quantization import tensor_quant
from fxquant.compat.pytorch_quantization.nn.modules._quantized_layer import QuantizedWeightLayer
from fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from fxquant.errors import OptionError

__all__ = ["LSTM", "LSTMCell", "QuantLSTM", "QuantLSTMCell"]

State = tuple[torch.Tensor, torch.Tensor]
"""The hidden and the cell state."""


class _Weights(NamedTuple):
    """Weights of one layer in one direction, w_ih [4 hidden, in] and w_hh [4 hidden, hidden], and biases."""

    w_ih: torch.Tensor
    w_hh: torch.Tensor
    b_ih: torch.Tensor | None = None
    b_hh: torch.Tensor | None = None

    def quantized(self, quantizer: TensorQuantizer) -> "_Weights":
        """Return them with w_ih and w_hh quantized as one tensor."""
        w_ih, w_hh = _quantized_together(self.w_ih, self.w_hh, quantizer)
        return self._replace(w_ih=w_ih, w_hh=w_hh)

    def quantize_(self, quantizer: TensorQuantizer) -> None:
        """Replace w_ih and w_hh by their quantized values."""
        values = self.quantized(quantizer)
        self.w_ih.copy_(values.w_ih)
        self.w_hh.copy_(values.w_hh)


class QuantLSTMCell(QuantizedWeightLayer, nn.LSTMCell):
    """``torch.nn.LSTMCell`` on quantized [input, hidden] and weights, one amax per row."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW
    _joins_hidden = True

    def forward(
        self,
        input: torch.Tensor,  # torch's name
        hx: State | None = None,
    ) -> State:
        """Return the next hidden and cell state.

        Args:
            input: [batch, in], or [in].
            hx: Hidden and cell state, [batch, hidden] each, or [hidden]; None for zeros.
        """
        if input.dim() == 1:
            hidden, cell = self(input[None], None if hx is None else (hx[0][None], hx[1][None]))
            return hidden[0], cell[0]
        if hx is None:
            zeros = input.new_zeros(input.shape[0], self.hidden_size)
            hx = zeros, zeros
        return _step(input, hx, self._weights().quantized(self._weight_quantizer), self._input_quantizer)

    def quant_weight_inplace(self) -> None:
        """Replace the weights by their quantized values; call it without gradients."""
        self._weights().quantize_(self._weight_quantizer)

    def _weights(self) -> _Weights:
        biases = (self.bias_ih, self.bias_hh) if self.bias else ()
        return _Weights(self.weight_ih, self.weight_hh, *biases)


class QuantLSTM(QuantizedWeightLayer, nn.LSTM):
    """``torch.nn.LSTM`` on quantized [input, hidden] and weights, one amax per row.

    Every layer and direction has a quantizer of [input, hidden] and one of the weights, in
    ``_input_quantizers`` and ``_weight_quantizers``: layer by layer, forward before backward. A forward
    quantizes weights once, and [input, hidden] at each time step.

    Raises:
        OptionError: If proj_size is above 0.
    """

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW
    _joins_hidden = True

    def forward(  # type: ignore[override]  # torch's own has two overloads, for what this returns
        self,
        input: torch.Tensor | PackedSequence,  # torch's name
        hx: State | None = None,
    ) -> tuple[torch.Tensor | PackedSequence, State]:
        """Return the last layer's hidden states of all time steps, and the last states of all layers.

        Args:
            input: [time, batch, in], [batch, time, in] if batch_first, [time, in], or packed sequences.
            hx: Hidden and cell state to start from, [layers * directions, batch, hidden] each; None for 0.

        Returns:
            The hidden states, in the form of the input, and the states in the form of hx. Of packed sequences
            that were not sorted the hidden states come in sorted order, as in NVIDIA's; the states do not.
        """
        if isinstance(input, PackedSequence):
            data, batch_sizes, order, back = input
            start = None if hx is None else self.permute_hidden(hx, order)
            output, state = self._run(data, batch_sizes.tolist(), start, batch_sizes)
            return PackedSequence(output, batch_sizes), self.permute_hidden(state, back)
        if input.dim() == 2:
            batch_dim = 0 if self.batch_first else 1
            start = None if hx is None else (hx[0][:, None], hx[1][:, None])
            output, (hidden, cell) = self(input.unsqueeze(batch_dim), start)
            return output.squeeze(batch_dim), (hidden[:, 0], cell[:, 0])
        steps = input.transpose(0, 1) if self.batch_first else input
        times, batch = steps.shape[:2]
        output, state = self._run(steps.flatten(0, 1), [batch] * times, hx, None, input)
        output = output.reshape(times, batch, -1)
        return (output.transpose(0, 1) if self.batch_first else output), state

    def quant_weight_inplace(self) -> None:
        """Replace the weights by their quantized values; call it without gradients."""
        for weights, quantizer in zip(self.all_weights, _each(self._weight_quantizers), strict=True):
            _Weights(*weights).quantize_(quantizer)

    def _num_quantizers(self) -> int:
        if self.proj_size > 0:
            raise OptionError(
                f"QuantLSTM has no projections: proj_size is {self.proj_size}.", remedy="Leave it out."
            )
        return self.num_layers * (2 if self.bidirectional else 1)

    def _run(
        self,
        data: torch.Tensor,
        sizes: Sequence[int],
        hx: State | None,
        batch_sizes: torch.Tensor | None,
        checked: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, State]:
        """Run all layers over the rows of all time steps, [sum of sizes, in]: sizes[t] rows are step t."""
        directions = 2 if self.bidirectional else 1
        if hx is None:
            zeros = data.new_zeros(self.num_layers * directions, max(sizes), self.hidden_size)
            hx = zeros, zeros
        self.check_forward_args(data if checked is None else checked, hx, batch_sizes)
        weights = [
            _Weights(*tensors).quantized(quantizer)
            for tensors, quantizer in zip(self.all_weights, _each(self._weight_quantizers), strict=True)
        ]
        quantizers = list(_each(self._input_quantizers))
        ends: list[State] = []
        for layer in range(self.num_layers):
            steps = torch.split(data, list(sizes))
            outputs = []
            for direction in range(directions):
                index = layer * directions + direction
                output, end = _run_direction(
                    steps[:: -1 if direction else 1],
                    (hx[0][index], hx[1][index]),
                    weights[index],
                    quantizers[index],
                )
                outputs.append(torch.cat(output[:: -1 if direction else 1]))
                ends.append(end)
            data = torch.cat(outputs, 1)
            if layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout, self.training)
        hidden, cell = zip(*ends, strict=True)
        return data, (torch.stack(hidden), torch.stack(cell))


def _each(quantizers: Iterable[nn.Module]) -> Iterator[TensorQuantizer]:
    """Yield a list's quantizers as what they are."""
    for quantizer in quantizers:
        assert isinstance(quantizer, TensorQuantizer)
        yield quantizer


def _run_direction(
    steps: Sequence[torch.Tensor], start: State, weights: _Weights, quantizer: TensorQuantizer
) -> tuple[list[torch.Tensor], State]:
    """Return the hidden states after each step, and the last states of all rows.

    Sequences are sorted by length. Forward, those that have ended drop out at the end of the batch; backward,
    they join there.
    """
    rows = len(steps[0])
    hidden, cell = start[0][:rows], start[1][:rows]
    ended: list[State] = []
    outputs = []
    for step in steps:
        before, rows = rows, len(step)
        if rows < before:
            ended.append((hidden[rows:], cell[rows:]))
            hidden, cell = hidden[:rows], cell[:rows]
        elif rows > before:
            hidden = torch.cat([hidden, start[0][before:rows]])
            cell = torch.cat([cell, start[1][before:rows]])
        hidden, cell = _step(step, (hidden, cell), weights, quantizer)
        outputs.append(hidden)
    if ended:
        hiddens, cells = zip(*reversed(ended), strict=True)
        hidden, cell = torch.cat([hidden, *hiddens]), torch.cat([cell, *cells])
    return outputs, (hidden, cell)


def _step(x: torch.Tensor, state: State, weights: _Weights, quantizer: TensorQuantizer) -> State:
    """Return the next state; i, f, g, o are the rows of the weights in this order (torch.nn.LSTM)."""
    hidden, cell = state
    x, hidden = _quantized_together(x, hidden, quantizer)
    gates = F.linear(x, weights.w_ih, weights.b_ih) + F.linear(hidden, weights.w_hh, weights.b_hh)
    i, f, g, o = gates.chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _quantized_together(
    a: torch.Tensor, b: torch.Tensor, quantizer: TensorQuantizer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two matrices of as many rows, quantized as one of all their columns.

    They are copies, not views: a matrix product with a view may differ in the last bit from torch.nn.LSTM's.
    """
    first, second = quantizer(torch.cat([a, b], 1)).split([a.shape[1], b.shape[1]], 1)
    return first.contiguous(), second.contiguous()


LSTM = QuantLSTM
LSTMCell = QuantLSTMCell
