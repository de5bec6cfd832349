"""QuantizationSimModel: AIMET's way to simulate a whole model, over fxquant's graph."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import OptionError
from fxquant.export.files import write_json
from fxquant.files.atomic import write_atomically
from fxquant.graph import Report
from fxquant.graph.edit import set_module
from fxquant.graph.kept_annotations import restore_annotations, save_annotations
from fxquant.nn import QuantizationMixin
from fxquant.nn import compute_encodings as compute_module_encodings
from fxquant.quantization import QuantizerBase
from fxquant.quantization.encoding_analyzer import PercentileEncodingAnalyzer
from fxquant.quantsim.config import load_config
from fxquant.quantsim.encodings_file import load_into, quantizer_args, sim_encodings
from fxquant.quantsim.placement import Defaults, QuantizationDataType, place_quantizers
from fxquant.quantsim.schemes import QuantScheme, analyzer_of, scheme_of
from fxquant.quantsim.sim_export import export_sim, put_pickle
from fxquant.quantsim.sim_graph import share_parameters, sim_graph

_ABSENT: Any = object()


class QuantizationSimModel:
    """A model whose layers quantize what they read and give, as a configuration asks for.

    The model is captured as a graph; functional ops such as ``x + y`` become modules, and every module whose
    class has a quantized class becomes one, at the path it had. Which of them quantize what is AIMET's
    configuration; any quantizer can be replaced or set to None afterwards.

    Args:
        model: Any nn.Module that can be captured; it is not modified unless ``in_place``.
        dummy_input: A tensor, a tuple of positional or a dict of keyword arguments of the model.
        quant_scheme: How ranges are found: "min_max" (the default), "tf_enhanced", "percentile", or a
            QuantScheme.
        default_output_bw: Bits of activations, 4 to 32.
        default_param_bw: Bits of parameters, 2 to 32.
        in_place: Whether the model's parameters are shared with the simulation.
        config_file: Name of a configuration ("default", "htp_v73" ...), path of an AIMET JSON file, or its
            contents.
        default_data_type: Whether quantizers simulate integers or floats (of 16 or 32 bits).

    Attributes:
        model: The simulation, an fx.GraphModule of quantized modules.
        quant_args: What quantizers are by default, as encodings files say it.
        excluded_layers: Names of the layers that ``exclude_layers_from_quantization`` was given.

    Raises:
        ModelTypeError: If model is no nn.Module, or holds quantizers already (AlreadyQuantizedError).
        CaptureError: If its forward cannot be traced; names the layer and the line.
        OptionError: If the scheme, configuration or a bitwidth does not exist.

    Example:
        >>> import torch
        >>> from fxquant.quantsim import QuantizationSimModel
        >>> x = torch.randn(4, 8)
        >>> sim = QuantizationSimModel(torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.ReLU()), x)
        >>> sim.compute_encodings(lambda model: model(x))
        >>> sim.model.get_submodule("0").param_quantizers["weight"]
        QuantizeDequantize(shape=(2, 1), qmin=-128, qmax=127, symmetric=True)
    """

    model: fx.GraphModule

    def __init__(
        self,
        model: nn.Module,
        dummy_input: Any,
        quant_scheme: QuantScheme | str | None = None,
        default_output_bw: int = 8,
        default_param_bw: int = 8,
        in_place: bool = False,
        config_file: str | Path | Mapping[str, Any] | None = None,
        default_data_type: QuantizationDataType = QuantizationDataType.int,
    ) -> None:
        config = load_config(config_file)
        defaults = Defaults(
            output_bits=default_output_bw,
            param_bits=default_param_bw,
            data_type=QuantizationDataType(getattr(default_data_type, "name", default_data_type)),
            analyzer=analyzer_of(quant_scheme),
        )
        self.report = Report()
        gm = sim_graph(model, dummy_input, self.report)
        if in_place:
            share_parameters(gm, model)
        place_quantizers(gm, config, defaults)
        self.model = gm
        self.quant_args = quantizer_args(scheme_of(quant_scheme), config, defaults)
        self.excluded_layers: list[str] = []

    def compute_encodings(
        self, forward_pass_callback: Callable[..., Any], forward_pass_callback_args: Any = _ABSENT
    ) -> None:
        """Find the range of every quantizer: those of parameters at once, the others on what a callback runs.

        Args:
            forward_pass_callback: Called as callback(model) or, with the second argument given,
                callback(model, args); runs representative data through the model.
            forward_pass_callback_args: What to pass on to the callback.
        """
        arguments = () if forward_pass_callback_args is _ABSENT else (forward_pass_callback_args,)
        with self._in_evaluation_mode(), torch.no_grad(), compute_module_encodings(self.model):
            forward_pass_callback(self.model, *arguments)

    def export(
        self,
        path: str | Path,
        filename_prefix: str,
        dummy_input: Any,
        *args: Any,
        export_model: bool = True,
        **kwargs: Any,
    ) -> None:
        """Write the model and its encodings: see ``sim_export.export_sim``.

        Args:
            path: Folder.
            filename_prefix: Name of the files before their endings.
            dummy_input: Inputs to trace with.
            *args: AIMET's further arguments; accepted, and without a meaning here.
            export_model: Whether to write more than the encodings.
            **kwargs: As args.

        Raises:
            ExportError: If the model cannot be written.
            NotCalibratedError: If a quantizer has no range.
        """
        export_sim(self, Path(path), filename_prefix, dummy_input, export_model)

    def save_encodings_to_json(self, path: str | Path, filename_prefix: str) -> None:
        """Write the encodings by module, as ``load_encodings`` reads them, to <path>/<prefix>.json."""
        write_json(sim_encodings(self), Path(path) / f"{filename_prefix}.json")

    def load_encodings(
        self,
        encodings: Mapping[str, Any] | str | Path,
        strict: bool = True,
        partial: bool = True,
        requires_grad: bool | None = None,
        allow_overwrite: bool | None = True,
    ) -> None:
        """Set the ranges of quantizers from encodings by module.

        Args:
            encodings: What ``save_encodings_to_json`` wrote, or its path.
            strict: Whether an encoding without a quantizer is an error.
            partial: Whether quantizers without an encoding stay; if not, they are removed.
            requires_grad: Whether the ranges are trained from then on; None leaves that as it is.
            allow_overwrite: Whether a later calibration may change them; None leaves that as it is.

        Raises:
            QuantizerError: If an encoding has no quantizer and ``strict`` is set.
        """
        load_into(self, encodings, strict, partial, requires_grad, allow_overwrite)

    def load_and_freeze_encodings(
        self, encodings: Mapping[str, Any] | str | Path, ignore_when_quantizer_disabled: bool = False
    ) -> None:
        """Set ranges that no later calibration changes."""
        self.load_encodings(encodings, not ignore_when_quantizer_disabled, allow_overwrite=False)

    def set_and_freeze_param_encodings(self, encoding_path: Mapping[str, Any] | str | Path) -> None:
        """Set the ranges of parameters, for good; ranges of activations in the file are left out."""
        load_into(self, encoding_path, True, True, None, False, only_parameters=True)

    def set_percentile_value(self, percentile_value: float) -> None:
        """Set the percentile of all analyzers that have one."""
        for quantizer in self.quantizers():
            if isinstance(quantizer.encoding_analyzer, PercentileEncodingAnalyzer):
                quantizer.encoding_analyzer.set_percentile(percentile_value)

    def exclude_layers_from_quantization(self, layers: Iterable[nn.Module]) -> None:
        """Remove all quantizers of some layers of the simulation, and of the layers inside them."""
        names = {id(module): name for name, module in self.model.named_modules()}
        for layer in layers:
            self.excluded_layers += [names[id(layer)]] if id(layer) in names else []
            for module in layer.modules():
                if isinstance(module, QuantizationMixin):
                    module._remove_all_quantizers()

    def exclude_param_from_quantization(self, param_name_to_exclude: str) -> None:
        """Remove the quantizers of all parameters of a name, such as "bias"."""
        for module in self.qmodules():
            if param_name_to_exclude in module.param_quantizers:
                module._remove_param_quantizers(param_name_to_exclude)

    def fold_param_quantizers(self) -> None:
        """Put all parameters on their grids for good; see ``QuantizationMixin.fold_param_quantizers``."""
        for module in self.qmodules():
            module.fold_param_quantizers()

    def named_qmodules(self) -> Iterator[tuple[str, QuantizationMixin]]:
        """Yield the quantized modules and their names."""
        for name, module in self.model.named_modules():
            if isinstance(module, QuantizationMixin):
                yield name, module

    def qmodules(self) -> Iterator[QuantizationMixin]:
        """Yield the quantized modules."""
        return (module for _, module in self.named_qmodules())

    def named_quantizers(self) -> Iterator[tuple[str, QuantizerBase]]:
        """Yield the quantizers and their names."""
        for name, module in self.model.named_modules():
            if isinstance(module, QuantizerBase):
                yield name, module

    def quantizers(self) -> Iterator[QuantizerBase]:
        """Yield the quantizers."""
        return (quantizer for _, quantizer in self.named_quantizers())

    def named_quantizer_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the quantizers and their names."""
        for name, quantizer in self.named_quantizers():
            for parameter_name, parameter in quantizer.named_parameters():
                yield f"{name}.{parameter_name}", parameter

    def quantizer_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the quantizers, for an optimizer."""
        return (parameter for _, parameter in self.named_quantizer_parameters())

    def get_original_model(self) -> nn.Module:
        """Return a copy of the model without quantizers, its functional ops still modules."""
        original = copy.deepcopy(self.model)
        for name, module in list(original.named_modules()):
            if isinstance(module, QuantizationMixin) and name:
                set_module(original, name, module.get_original_module())
        return original

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"annotations": save_annotations(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        annotations = state.pop("annotations")
        self.__dict__.update(state)
        restore_annotations(self.model, annotations)

    def __str__(self) -> str:
        return str(self.model)

    @contextlib.contextmanager
    def _in_evaluation_mode(self) -> Iterator[None]:
        training = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode


def save_checkpoint(sim: QuantizationSimModel, file_path: str | Path) -> None:
    """Write a simulation as a pickle, quantizers and ranges included; whole or not at all.

    Raises:
        ExportError: If it cannot be written.
    """
    write_atomically(Path(file_path), lambda temporary: put_pickle(sim, temporary))


def load_checkpoint(file_path: str | Path) -> QuantizationSimModel:
    """Return a simulation that ``save_checkpoint`` wrote. It is a pickle: load only what you trust.

    Raises:
        OptionError: If the file holds something else.
    """
    sim = torch.load(file_path, weights_only=False)
    if not isinstance(sim, QuantizationSimModel):
        raise OptionError(f"'{file_path}' holds a {type(sim).__name__}, not a QuantizationSimModel.")
    return sim


def load_encodings_to_sim(
    sim: QuantizationSimModel, encodings: Mapping[str, Any] | str | Path, strict: bool = True
) -> None:
    """Set ranges from encodings by module; quantizers without one are removed."""
    sim.load_encodings(encodings, strict, partial=False)
