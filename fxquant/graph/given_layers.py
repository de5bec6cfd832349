"""replace_given_layers: put float layers where a graph calls another library's quantized ones."""

from torch import fx, nn

from fxquant.graph.capture_notes import graphs_of
from fxquant.graph.edit import set_module
from fxquant.quantization.given import Given, GivenLayer, LayerGiven, keep_for


def is_replaceable(layer: nn.Module) -> bool:
    """Whether a module is another library's layer that a float layer can stand for: one call of a graph."""
    return isinstance(layer, GivenLayer) and _givens(layer) is not None and layer.float_layer() is not None


def replace_given_layers(gm: fx.GraphModule) -> None:
    """Put float layers in place of given ones, in all graphs of a model; what these did is kept on them.

    Args:
        gm: A captured model, changed in place; its layers are a copy of the user's.
    """
    made: dict[int, nn.Module] = {}
    for graph in graphs_of(gm):
        called = dict.fromkeys(str(node.target) for node in graph.graph.find_nodes(op="call_module"))
        for path in called:
            layer = graph.get_submodule(path)
            if not isinstance(layer, GivenLayer) or not is_replaceable(layer):
                continue
            if id(layer) not in made:
                made[id(layer)] = _float_layer(layer, path)
            plain = made[id(layer)]
            set_module(graph, path, plain)
            for name, child in layer._modules.items():  # which the user's code may call as well
                if any(f"{other}.".startswith(f"{path}.{name}.") for other in called):
                    plain._modules[name] = child


def _float_layer(layer: GivenLayer, path: str) -> nn.Module:
    givens, plain = _givens(layer, path), layer.float_layer()
    assert givens is not None and plain is not None
    parameters = dict(plain.named_parameters(recurse=False))
    for name in givens.keys() & parameters.keys():
        keep_for(parameters[name], givens[name])
    lost = tuple(sorted(givens.keys() - parameters.keys() - {"input"}))
    off = next((name for name, given in givens.items() if not given.is_on), "")
    keep_for(plain, LayerGiven(input=givens.get("input"), off=off, lost=lost))
    return plain


def _givens(layer: GivenLayer, path: str = "") -> dict[str, Given] | None:
    """Return what each quantizer of a layer does; None if one cannot be replaced, or scales its tensor."""
    found = {name: quantizer.given(path) for name, quantizer in layer.given_quantizers().items()}
    givens = {name: given for name, given in found.items() if isinstance(given, Given)}
    is_plain = len(givens) == len(found) and all(given.factor is None for given in givens.values())
    return givens if is_plain else None
