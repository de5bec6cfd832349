"""InsertQuantizers: put a quantizer on every tensor that is to be read quantized.

Before::

    conv = Conv2d[conv](x)  {x: int8, weight: int8 axis 0}

After::

    x_quantizer = QuantizeDequantize[quantizers.x](x)  symmetric [-128, 127]
    conv = Conv2d[conv](x_quantizer)  {x: int8, weight: int8 axis 0}
"""

from dataclasses import dataclass

import torch
from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.aliases import Aliases
from fxquant.graph.annotations import TENSOR
from fxquant.graph.edit import add_module, identifier, insert_call
from fxquant.graph.names import free_name, tensor_names
from fxquant.graph.values import attribute, is_constant, is_quantizer, returns
from fxquant.ops import Returns
from fxquant.passes.assignment import assignment_of
from fxquant.passes.base import Changes, Pass
from fxquant.passes.share_encodings import GROUP
from fxquant.quantization import QuantizationSpec
from fxquant.quantization.of_spec import quantizer_of

ROOM = "quantizers"  # the submodule that holds all activation quantizers


@dataclass(frozen=True)
class InsertQuantizers(Pass):
    """Put one quantizer on every tensor that is to be read quantized, shared within an encoding group."""

    name = "insert-quantizers"
    changes = Changes.STRUCTURE
    after = ("share-encodings",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        names, device, room = tensor_names(gm), _device(gm), _room(gm)
        nodes = list(gm.graph.nodes)
        last_input = [node for node in nodes if node.op == "placeholder"][-1:]
        aliases = Aliases(gm)
        homes: dict[tuple[str, QuantizationSpec], str] = {}
        has_changed = False
        for node in nodes:
            if returns(gm, node) is not Returns.TENSOR or is_quantizer(gm, node):
                continue
            wanted = _readers(gm, node)
            if wanted and aliases.is_written(node):
                self.declined(gm, node, report, "it is written in place, so it has no one value to quantize")
                continue
            for spec, readers in wanted.items():
                home = (node.meta.get(GROUP, node.name), spec)
                if home not in homes:
                    quantizer = quantizer_of(spec, _shape(gm, node)).to(device)
                    homes[home] = add_module(gm, f"{room}.{identifier(names[node])}", quantizer)
                after = last_input[0] if node.op == "placeholder" else node
                call = insert_call(gm, homes[home], node, after)
                call.meta[TENSOR] = names[node]
                for reader in readers:
                    reader.replace_input_with(node, call)
                self._convert(gm, node, call, spec, homes)
                self.applied(gm, node, report, f"{spec} in '{homes[home]}'")
                has_changed = True
        return has_changed

    def _convert(
        self,
        gm: fx.GraphModule,
        node: fx.Node,
        call: fx.Node,
        spec: QuantizationSpec,
        homes: dict[tuple[str, QuantizationSpec], str],
    ) -> None:
        """Quantize a quantized tensor again for readers whose kernels take another type."""
        for reader in list(call.users):
            assignment = assignment_of(reader)
            wanted = None if assignment is None else assignment.inputs.get(node.name)
            if assignment is None or wanted is None or wanted not in assignment.rule.operands.values():
                continue
            if (wanted.bitwidth, wanted.signed) == (spec.bitwidth, spec.signed):
                continue
            home = f"{node.meta.get(GROUP, node.name)} converted", wanted
            if home not in homes:
                quantizer = quantizer_of(wanted).to(_device(gm))
                path = homes[node.meta.get(GROUP, node.name), spec]
                homes[home] = add_module(gm, f"{path}_converted", quantizer)
            converted = insert_call(gm, homes[home], call, call)
            dtype = f"{'' if wanted.signed else 'u'}int{wanted.bitwidth}"
            converted.meta[TENSOR] = f"{call.meta[TENSOR]}_{dtype}"
            reader.replace_input_with(call, converted)


def _readers(gm: fx.GraphModule, node: fx.Node) -> dict[QuantizationSpec, list[fx.Node]]:
    """Return the nodes that are to read a tensor quantized, by the spec they want.

    Where the tensor's own op asks for a spec, every reader gets that one.
    """
    own = assignment_of(node)
    readers: dict[QuantizationSpec, list[fx.Node]] = {}
    for user in [user for user in node.users if not is_quantizer(gm, user)]:
        assignment = assignment_of(user)
        wanted = assignment.inputs.get(node.name) if assignment is not None else None
        spec = own.output if own is not None and own.output is not None else wanted
        if spec is not None:
            readers.setdefault(spec, []).append(user)
    return readers


def _room(gm: fx.GraphModule) -> str:
    """Return the path of the container of quantizers: one of ours, or a name that the model does not use."""
    return free_name(ROOM, lambda name: hasattr(gm, name) and type(getattr(gm, name)) is not nn.Module)


def _device(gm: fx.GraphModule) -> torch.device:
    """Return where the model is; the CPU for one without parameters."""
    return next((parameter.device for parameter in gm.parameters()), torch.device("cpu"))


def _shape(gm: fx.GraphModule, node: fx.Node) -> tuple[int, ...]:
    value = attribute(gm, node) if is_constant(node) else None
    return tuple(getattr(value, "shape", ()))
