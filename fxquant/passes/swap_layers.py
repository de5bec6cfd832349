"""SwapLayers: swap calls of functions on constant parameters for layers, which can be folded and quantized.

Before::

    conv2d = conv2d(x, weight, bias, 2)
    batch_norm = batch_norm(conv2d, mean, var, gain, shift, False, 0.1, 1e-05)
    matmul = matmul(batch_norm, .t(matrix))

After::

    conv2d = Conv2d[block.conv2d](x)
    batch_norm = BatchNorm2d[block.batch_norm](conv2d)
    matmul = Linear[block.matmul](batch_norm)
"""

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.annotations import layer_of, result_of
from fxquant.graph.edit import add_module, set_module
from fxquant.graph.values import arguments_by_name, attribute, is_constant, op_of, transposed_constant
from fxquant.ops import LINEAR, LayerForm, Op
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class SwapLayers(Pass):
    """Swap calls of functions on constant parameters for layers that hold them."""

    name = "swap-layers"
    changes = Changes.STRUCTURE
    after = ("canonicalize", "decompose-einsum", "decompose-grouped-products", "decompose-addmm")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        made: dict[tuple[object, ...], str] = {}  # a layer that is called again, by what it is made of
        for node in list(gm.graph.nodes):
            op = op_of(gm, node) if node.op in ("call_function", "call_method") else None
            found = None if op is None else _form(gm, node, op)
            if found is None:
                continue
            form, given = found
            layer, constants = _layer(gm, form, given)
            if isinstance(layer, str):
                self.declined(gm, node, report, layer)
                continue
            held = sorted((name, str(constant.target)) for name, constant in constants.items())
            key = (type(layer), *held, layer.extra_repr())
            if key not in made:
                made[key] = _put(gm, node, layer, constants)
            path = made[key]
            with gm.graph.inserting_before(node):
                call = gm.graph.call_module(path, (given[form.arguments[0]],))
            call.meta.update(node.meta)
            node.replace_all_uses_with(call)
            gm.graph.erase_node(node)
            self.applied(gm, call, report, "now a layer")
            has_changed = True
        return has_changed


def _form(gm: fx.GraphModule, node: fx.Node, op: Op) -> tuple[LayerForm, dict[str, Any]] | None:
    """Return the layer that a call is, with the call's arguments by name; None for no layer."""
    if op.layer is not None:
        return op.layer, arguments_by_name(node, op.layer.arguments)
    # a product with a transposed matrix is a linear layer
    if len(op.activations) != 2 or op.activations[1].channel_axis is None or len(node.args) != 2:
        return None
    weight = transposed_constant(gm, node.args[1])
    is_matrix = weight is not None and getattr(attribute(gm, weight), "ndim", 0) == 2
    return None if not is_matrix else (LINEAR, {"input": node.args[0], "weight": weight})


def _layer(
    gm: fx.GraphModule, form: LayerForm, given: dict[str, Any]
) -> tuple[nn.Module | str, dict[str, fx.Node]]:
    """Return the layer, with the nodes of the tensors it holds; or why there is none."""
    constants = {name: given[name] for name in form.held if given.get(name) is not None}
    if any(name not in constants for name in form.held if name not in form.optional):
        return "it is given no parameters", {}
    if not all(isinstance(value, fx.Node) and is_constant(value) for value in constants.values()):
        return "its parameters are not all constants", {}
    source = given.get(form.arguments[0])
    if not isinstance(source, fx.Node):
        return "its input is not named", {}
    options = {
        name: value for name, value in given.items() if name not in form.held and name != form.arguments[0]
    }
    computed: list[fx.Node] = []
    fx.map_arg(list(options.values()), computed.append)
    if computed or any(name not in form.arguments for name in options):
        return "its options are computed", {}
    held: dict[str, Any] = {name: attribute(gm, value) for name, value in constants.items()}
    result = result_of(source)
    layer = form.make(held, _plain(options), None if result is None else len(result.shape))
    if layer is None:
        return "no layer computes it; a norm needs example_inputs and takes no statistics of the batch", {}
    for name, tensor in held.items():
        if name in layer._buffers:
            layer._buffers[name] = tensor
        else:
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(layer, name, tensor if is_parameter else nn.Parameter(tensor, requires_grad=False))
    return layer, constants


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with tuples where fx holds lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _put(gm: fx.GraphModule, node: fx.Node, layer: nn.Module, constants: dict[str, fx.Node]) -> str:
    """Put a layer into the model, where possible in place of the module that held its tensors."""
    paths = {name: str(constant.target) for name, constant in constants.items()}
    owners = {path.rpartition(".")[0] for path in paths.values()}
    owner = next(iter(owners))
    is_alone = len(owners) == 1 and owner and all(path == f"{owner}.{name}" for name, path in paths.items())
    if is_alone and not _is_read_elsewhere(gm, owner, node, set(constants.values())):
        set_module(gm, owner, layer)
        return owner
    op = op_of(gm, node)
    return add_module(gm, f"{layer_of(node)}.{op.name if op else node.name}".lstrip("."), layer)


def _is_read_elsewhere(gm: fx.GraphModule, owner: str, node: fx.Node, constants: set[fx.Node]) -> bool:
    """Whether anything but one call reads a module or what it holds."""
    holder = gm.get_submodule(owner)
    for other in gm.graph.nodes:
        if other.op not in ("get_attr", "call_module"):
            continue
        path = str(other.target)
        is_below = path == owner or path.startswith(f"{owner}.") or not path or owner.startswith(f"{path}.")
        module = gm.get_submodule(path if other.op == "call_module" else path.rpartition(".")[0])
        if not is_below and module is not holder:
            continue
        if other not in constants or any(
            user is not node and not _leads_to(user, node) for user in other.users
        ):
            return True
    return False


def _leads_to(user: fx.Node, node: fx.Node) -> bool:
    """Whether a view of a constant is read by one call alone."""
    return user.op != "output" and list(user.users) == [node] and len(user.all_input_nodes) == 1
