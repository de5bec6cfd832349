"""AbsorbBias: move what all values of a channel have in common into the biases behind it.

Equalization can leave channels with large biases, which take up the range of an activation. A ReLU returns
what is positive unchanged; with c the part of a channel that all but a thousandth of its values exceed::

    c = max(0, mean - 3 std)     bias1' = bias1 - c     bias2' = bias2 + W2 c

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling: Data-Free Quantization Through Weight Equalization and
Bias Correction, ICCV 2019, section 4.1.3.
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.channel_layers import ChannelLayer, channel_layers_of, has_blocks
from fxquant.algorithms.context import Context
from fxquant.errors import OptionError
from fxquant.graph.norm_note import norm_note
from fxquant.graph.values import is_quantizer, op_of


@dataclass(frozen=True, kw_only=True)
class AbsorbBias(Algorithm):
    """Absorb high biases, after equalization; calibrate after it.

    Mean and standard deviation of a channel are those that the folded batch norm gave it, so no data is
    needed. Values below c, a thousandth of a normal distribution at 3 deviations, come out changed. Layers
    that pad with zeros are left alone: at the border they read no c.

    Attributes:
        deviations: How many standard deviations below the mean of a channel c lies.

    Raises:
        OptionError: If deviations is negative.
    """

    name = "absorb-bias"
    deviations: float = 3.0

    def __post_init__(self) -> None:
        if self.deviations < 0:
            raise OptionError(f"'deviations' is {self.deviations}; it is 0 or more.", remedy="Pass 3.")

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        layers = [layer for layer in channel_layers_of(gm)[0] if not layer.is_gain]
        by_call = {call: layer for layer in layers for call in layer.calls}
        for layer in layers:
            readers = _readers(gm, layer, by_call)
            note = norm_note(layer.module)
            if isinstance(readers, str) or note is None or layer.bias is None:
                reason = readers if isinstance(readers, str) else "no batch norm was folded into it"
                context.declined(layer.name, reason)
                continue
            excess = (note.mean - self.deviations * note.std).double().clamp(min=0)
            if not bool(excess.any()):
                context.declined(layer.name, "no channel lies that far above zero")
                continue
            before = float(layer.bias.detach().abs().max())
            context.write(layer.bias, layer.bias.detach().double() - excess)
            context.write(note.mean, note.mean.double() - excess)
            for reader in readers:
                taps = reader.matrices(reader.weight.detach().double()).sum(-1)  # [groups, out, in]
                gained = (taps @ excess.reshape(reader.groups, -1, 1)).reshape(-1)
                old = torch.zeros_like(gained) if reader.bias is None else reader.bias.detach().double()
                context.set_parameter(reader.module, "bias", old + gained)
            names = ", ".join(f"'{reader.name}'" for reader in readers)
            context.applied(
                layer.name,
                f"moved into the biases of {names}",
                before,
                float(layer.bias.detach().abs().max()),
            )


def _readers(
    gm: fx.GraphModule, layer: ChannelLayer, by_call: dict[fx.Node, ChannelLayer]
) -> list[ChannelLayer] | str:
    """Return the layers that read what a layer gives, unchanged above zero; or why they cannot absorb it."""
    if len(layer.calls) > 1:
        return "it is called more than once"
    readers: dict[ChannelLayer, None] = {}
    waiting, has_end = [layer.calls[0]], False
    while waiting:
        for user in waiting.pop().users:
            op = op_of(gm, user)
            if user in by_call:
                reason = _refusal(by_call[user], layer)
                if reason:
                    return reason
                readers[by_call[user]] = None
            elif is_quantizer(gm, user):
                waiting.append(user)
            elif op is not None and op.is_identity_above_zero:
                has_end = True
                waiting.append(user)
            else:
                return f"'{user.name if op is None else op.name}' reads its output"
    return list(readers) if has_end and readers else "no layer reads it behind a ReLU"


def _refusal(reader: ChannelLayer, layer: ChannelLayer) -> str:
    if len(reader.calls) > 1:
        return f"'{reader.name}' is called more than once"
    if reader.is_transposed:
        return f"'{reader.name}' reads another number of taps at each place"
    padding = getattr(reader.module, "padding", 0)
    is_padded = padding == "same" or any(torch.as_tensor(padding if padding != "valid" else 0).reshape(-1))
    if is_padded and getattr(reader.module, "padding_mode", "zeros") == "zeros":
        return f"'{reader.name}' pads with zeros, which hold nothing of the bias"
    if reader.bias is None and has_blocks(reader):
        return f"'{reader.name}' has no bias"
    return "" if reader.num_inputs == layer.num_outputs else f"'{reader.name}' reads other channels"
