"""AssignGivenRanges: give quantizers the ranges that the model's own quantizers had.

Before::

    relu = ReLU[relu](x)                        # given: amax 2.5
    relu_quantizer = QuantizeDequantize[quantizers.relu](relu)

After::

    the same, quantizers.relu with the range of amax 2.5, which calibration leaves as it is
"""

from dataclasses import dataclass

from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.annotations import GIVEN
from fxquant.graph.values import attribute, is_quantizer, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.passes.base import Changes, Pass
from fxquant.passes.share_encodings import GROUP
from fxquant.quantization.given import Given, given_for, widest
from fxquant.quantization.given_range import refusal, set_given_range
from fxquant.quantization.of_spec import Trainable


@dataclass(frozen=True)
class AssignGivenRanges(Pass):
    """Give quantizers the ranges that the model's own quantizers had; calibration leaves them as they are."""

    name = "assign-given-ranges"
    changes = Changes.VALUES
    after = ("insert-quantizers", "swap-modules")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        homes = _homes(gm)
        done: dict[Trainable, Given] = {}
        for node in gm.graph.nodes:
            given = node.meta.get(GIVEN)
            if node.op == "get_attr":
                given = given_for(attribute(gm, node))
            if isinstance(given, Given) and given.is_on:
                quantizer = homes.get(node) or homes.get(node.meta.get(GROUP, node.name))
                self._assign(gm, node, given, quantizer, done, report)
            layer = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
            for name, given in _of_parameters(layer):
                self._assign(gm, node, given, _own_quantizer(layer, name), done, report)
        return bool(done)

    def _assign(
        self,
        gm: fx.GraphModule,
        node: fx.Node,
        given: Given,
        quantizer: Trainable | None,
        done: dict[Trainable, Given],
        report: Report,
    ) -> None:
        if quantizer is None:
            self.declined(gm, node, report, "the target runs it in float")
            return
        if done.get(quantizer) is given:
            return
        if quantizer in done:
            given = widest(done[quantizer], given)
            quantizer.allow_overwrite(True)
        reason = refusal(quantizer, given)
        if reason:
            self.declined(gm, node, report, reason)
            return
        done[quantizer] = given
        self.applied(gm, node, report, set_given_range(quantizer, given))
        quantizer.allow_overwrite(False)


def _homes(gm: fx.GraphModule) -> dict[object, Trainable]:
    """Return the quantizers of tensors: by node, and by encoding group."""
    homes: dict[object, Trainable] = {}
    for node in gm.graph.nodes:
        quantizer = quantizer_of(gm, node)
        source = node.all_input_nodes[0] if quantizer is not None else None
        if isinstance(quantizer, Trainable) and source is not None and not is_quantizer(gm, source):
            homes[source] = quantizer
            homes.setdefault(source.meta.get(GROUP, source.name), quantizer)
    return homes


def _of_parameters(layer: nn.Module | None) -> list[tuple[str, Given]]:
    """Return what was given for a layer's own parameters, by name."""
    parameters = {} if layer is None else layer._parameters
    found = [(name, given_for(parameter)) for name, parameter in parameters.items()]
    return [(name, given) for name, given in found if given is not None and given.is_on]


def _own_quantizer(layer: nn.Module | None, name: str) -> Trainable | None:
    held = dict(layer.param_quantizers.items()) if isinstance(layer, QuantizationMixin) else {}
    quantizer: object = held.get(name)
    return quantizer if isinstance(quantizer, Trainable) else None
