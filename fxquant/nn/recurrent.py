"""Quantized recurrent modules: RNN, LSTM, GRU and their cells; and EmbeddingBag, which runs the same way.

An RNN gives several tensors whose ranges have nothing in common, and has several weights, so its classes
are not made from its row of the op table.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.nn.by_call import QuantizedByCall
from fxquant.nn.mixin import QuantizationMixin


@QuantizationMixin.implements(nn.RNN)
class QuantizedRNN(QuantizedByCall, nn.RNN):
    """nn.RNN with quantizers: inputs are (input, h), outputs (output, h)."""

    num_inputs, num_outputs = 2, 2
    torch_functions = (torch.rnn_tanh, torch.rnn_relu)


@QuantizationMixin.implements(nn.LSTM)
class QuantizedLSTM(QuantizedByCall, nn.LSTM):
    """nn.LSTM with quantizers: inputs are (input, h, c), outputs (output, h, c)."""

    num_inputs, num_outputs = 3, 3
    torch_functions = (torch.lstm,)


@QuantizationMixin.implements(nn.GRU)
class QuantizedGRU(QuantizedByCall, nn.GRU):
    """nn.GRU with quantizers: inputs are (input, h), outputs (output, h)."""

    num_inputs, num_outputs = 2, 2
    torch_functions = (torch.gru,)


@QuantizationMixin.implements(nn.RNNCell)
class QuantizedRNNCell(QuantizedByCall, nn.RNNCell):
    """nn.RNNCell with quantizers: inputs are (input, h), the output is h."""

    num_inputs = 2
    torch_functions = (torch.rnn_tanh_cell, torch.rnn_relu_cell)


@QuantizationMixin.implements(nn.LSTMCell)
class QuantizedLSTMCell(QuantizedByCall, nn.LSTMCell):
    """nn.LSTMCell with quantizers: inputs are (input, h, c), outputs (h, c)."""

    num_inputs, num_outputs = 3, 2
    torch_functions = (torch.lstm_cell,)


@QuantizationMixin.implements(nn.GRUCell)
class QuantizedGRUCell(QuantizedByCall, nn.GRUCell):
    """nn.GRUCell with quantizers: inputs are (input, h), the output is h."""

    num_inputs = 2
    torch_functions = (torch.gru_cell,)


@QuantizationMixin.implements(nn.EmbeddingBag)
class QuantizedEmbeddingBag(QuantizedByCall, nn.EmbeddingBag):
    """nn.EmbeddingBag with quantizers for its table, the weights of samples (its input) and its output."""

    torch_functions = (F.embedding_bag,)
