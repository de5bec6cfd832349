"""SimConfig: AIMET's configuration of a QuantizationSimModel, from JSON or by name.

Sections of the JSON, each overriding the ones before: ``defaults``, ``params``, ``op_type``, ``supergroups``,
``model_input`` and ``model_output``. Booleans are the strings "True" and "False". ONNX names ops.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fxquant.errors import OptionError, unknown_option

_IGNORED = ("supported_kernels", "hw_version")  # AIMET's: kernels are set in code, one format fits all chips
_FLAGS = ("is_input_quantized", "is_output_quantized", "is_symmetric", "per_channel_quantization")
_OPS = (*_FLAGS, "params", "encoding_constraints", *_IGNORED)
_DEFAULTS = ("ops", "params", "strict_symmetric", "unsigned_symmetric", "per_channel_quantization", *_IGNORED)
_SECTIONS = ("defaults", "params", "op_type", "supergroups", "model_input", "model_output")
_UNUSED = ("supergroup_pass_list", "name")  # by aimet-torch, too


@dataclass(frozen=True, kw_only=True)
class ParameterSettings:
    """What the configuration says of a parameter; None where it is silent."""

    is_quantized: bool | None = None
    is_symmetric: bool | None = None

    def over(self, base: "ParameterSettings") -> "ParameterSettings":
        """Return the base's settings with this one's own in their place."""
        return ParameterSettings(
            is_quantized=base.is_quantized if self.is_quantized is None else self.is_quantized,
            is_symmetric=base.is_symmetric if self.is_symmetric is None else self.is_symmetric,
        )


@dataclass(frozen=True, kw_only=True)
class OpSettings:
    """What the configuration says of an op; None where it is silent.

    Attributes:
        is_input_quantized: Whether every input gets a quantizer.
        is_output_quantized: Whether outputs get one.
        is_symmetric: Whether these are symmetric.
        per_channel_quantization: Whether weights keep a range per channel.
        params: Settings of parameters by name.
        constraints: Range that outputs are fixed to, (min, max); None for an end that is calibrated.
    """

    is_input_quantized: bool | None = None
    is_output_quantized: bool | None = None
    is_symmetric: bool | None = None
    per_channel_quantization: bool | None = None
    params: Mapping[str, ParameterSettings] = field(default_factory=dict)
    constraints: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """A whole configuration.

    Attributes:
        ops: Settings of every op.
        params: Settings of every parameter.
        named_params: Settings of parameters by name.
        op_types: Settings by ONNX op.
        supergroups: Chains of ONNX ops that run as one: only what goes in and comes out is quantized.
        quantizes_model_input: Whether what the model is given is quantized.
        quantizes_model_output: Whether what it returns is quantized whatever its op says.
    """

    ops: OpSettings
    params: ParameterSettings
    named_params: Mapping[str, ParameterSettings] = field(default_factory=dict)
    op_types: Mapping[str, OpSettings] = field(default_factory=dict)
    supergroups: tuple[tuple[str, ...], ...] = ()
    quantizes_model_input: bool = False
    quantizes_model_output: bool = False

    def op(self, onnx: str) -> OpSettings:
        """Return the settings of an ONNX op, with the defaults where its own are silent."""
        own, base = self.op_types.get(onnx, OpSettings()), self.ops
        return OpSettings(
            is_input_quantized=_first(own.is_input_quantized, base.is_input_quantized, False),
            is_output_quantized=_first(own.is_output_quantized, base.is_output_quantized, False),
            is_symmetric=_first(own.is_symmetric, base.is_symmetric, False),
            per_channel_quantization=_first(
                own.per_channel_quantization, base.per_channel_quantization, False
            ),
            params=own.params,
            constraints=own.constraints,
        )

    def parameter(self, onnx: str, name: str) -> ParameterSettings:
        """Return the settings of a parameter of an ONNX op."""
        own = self.op_types.get(onnx, OpSettings()).params.get(name, ParameterSettings())
        return own.over(self.named_params.get(name, ParameterSettings()).over(self.params))


def load_config(config: str | Path | Mapping[str, Any] | None) -> SimConfig:
    """Return a configuration: by name, from the path of a JSON file or its contents; None for "default".

    Raises:
        OptionError: If there is no such name or file, or the JSON is not a configuration.
    """
    if config is None or (isinstance(config, str) and config in CONFIGS):
        return CONFIGS[config or "default"]
    if isinstance(config, Mapping):
        return _parse(config)
    path = Path(config)
    if not path.is_file():
        raise unknown_option("configuration", str(config), CONFIGS)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OptionError(f"'{path}' is not JSON: {error}.") from error
    return _parse(document)


def _parse(document: object) -> SimConfig:
    given = _section(document, "The configuration", (*_SECTIONS, *_UNUSED))
    if "defaults" not in given:
        raise OptionError("The configuration has no section 'defaults'.", remedy=f"Sections: {_SECTIONS}.")
    defaults = _section(given["defaults"], "defaults", _DEFAULTS)
    for name in ("strict_symmetric", "unsigned_symmetric"):
        if _flag(defaults, name, "defaults"):
            raise OptionError(f"'{name}' is not supported.", remedy='Set it to "False".')
    ops = _op_settings(defaults.get("ops", {}), "defaults.ops")
    per_channel = _flag(defaults, "per_channel_quantization", "defaults")
    model_input = _section(given.get("model_input", {}), "model_input", ("is_input_quantized",))
    model_output = _section(given.get("model_output", {}), "model_output", ("is_output_quantized",))
    return SimConfig(
        ops=replace(ops, per_channel_quantization=per_channel),
        params=_parameter_settings(defaults.get("params", {}), "defaults.params"),
        named_params=_parameters(given.get("params", {}), "params"),
        op_types={
            name: _op_settings(settings, f"op_type.{name}")
            for name, settings in _section(given.get("op_type", {}), "op_type").items()
        },
        supergroups=_supergroups(given.get("supergroups", [])),
        quantizes_model_input=_flag(model_input, "is_input_quantized", "model_input") is True,
        quantizes_model_output=_flag(model_output, "is_output_quantized", "model_output") is True,
    )


def _supergroups(given: object) -> tuple[tuple[str, ...], ...]:
    found = []
    for group in given if isinstance(given, list) else [given]:
        ops = _section(group, "supergroups", ("op_list",)).get("op_list")
        if not isinstance(ops, list) or not all(isinstance(op, str) for op in ops):
            raise OptionError(f"A supergroup is {ops!r}.", remedy='Write {"op_list": ["Conv", "Relu"]}.')
        found.append(tuple(ops))
    return tuple(found)


def _op_settings(settings: object, where: str) -> OpSettings:
    given = _section(settings, where, _OPS)
    bounds = _section(given.get("encoding_constraints", {}), f"{where}.encoding_constraints", ("min", "max"))
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise OptionError(
                f"'{where}.encoding_constraints.{name}' is {bound!r}.", remedy="Write a number."
            )
    return OpSettings(
        is_input_quantized=_flag(given, "is_input_quantized", where),
        is_output_quantized=_flag(given, "is_output_quantized", where),
        is_symmetric=_flag(given, "is_symmetric", where),
        per_channel_quantization=_flag(given, "per_channel_quantization", where),
        params=_parameters(given.get("params", {}), f"{where}.params"),
        constraints=(bounds.get("min"), bounds.get("max")),
    )


def _parameters(settings: object, where: str) -> dict[str, ParameterSettings]:
    return {
        name: _parameter_settings(given, f"{where}.{name}")
        for name, given in _section(settings, where).items()
    }


def _parameter_settings(settings: object, where: str) -> ParameterSettings:
    given = _section(settings, where, ("is_quantized", "is_symmetric"))
    return ParameterSettings(
        is_quantized=_flag(given, "is_quantized", where), is_symmetric=_flag(given, "is_symmetric", where)
    )


def _section(given: object, where: str, known: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Return a section, checked to be one and to hold nothing unknown."""
    if not isinstance(given, Mapping):
        raise OptionError(f"'{where}' is no section but {given!r}.", remedy="Write {...}.")
    unknown = sorted(given.keys() - set(given if known is None else known))
    if unknown:
        raise OptionError(f"'{where}' has an unknown entry '{unknown[0]}'.", remedy=f"Known: {known}.")
    return given


def _flag(section: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = section.get(name)
    if value not in (None, "True", "False"):
        raise OptionError(f"'{where}.{name}' is {value!r}.", remedy='Write "True" or "False".')
    return None if value is None else value == "True"


def _first(*values: bool | None) -> bool:
    return next(value for value in values if value is not None)


_ON = OpSettings(is_output_quantized=True)
_OFF = OpSettings(is_output_quantized=False)
_PER_CHANNEL = OpSettings(per_channel_quantization=True)
_ASYMMETRIC_WEIGHT = OpSettings(params={"weight": ParameterSettings(is_symmetric=False)})
_WEIGHTS = ParameterSettings(is_quantized=True, is_symmetric=True)
_FLOAT = {"bias": ParameterSettings(is_quantized=False)}


def _fixed(minimum: float, maximum: float | None = None) -> OpSettings:
    return OpSettings(constraints=(minimum, maximum))


def _per_channel(*ops: str) -> dict[str, OpSettings]:
    return dict.fromkeys(ops, _PER_CHANNEL)


_DEFAULT = SimConfig(
    ops=_ON,
    params=_WEIGHTS,
    named_params=_FLOAT,
    op_types=_per_channel("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu") | {"Cast": _OFF},
    supergroups=(*((op, "Relu") for op in ("Conv", "ConvTranspose", "Add", "Gemm")), ("Conv", "Clip")),
    quantizes_model_input=True,
)

_HTP_OPS = {
    **dict.fromkeys(("Cast", "ChannelShuffle", "Gather", "NonMaxSuppression"), _OFF),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "RMSNormalization"), _ASYMMETRIC_WEIGHT),
    **dict.fromkeys(("Sin", "Cos", "Tanh"), _fixed(-1.0, 1.0)),
    "Relu": _fixed(0.0),
}
_HTP_EARLY_GROUPS = (("ConvTranspose", "Relu"), ("Add", "Relu"), ("Gemm", "Relu"))
_HTP_ACTIVATIONS = ("Relu", "PRelu", "LeakyRelu")
_HTP_GROUPS = (
    *_HTP_EARLY_GROUPS,
    *(("Conv", "BatchNormalization", op) for op in (*_HTP_ACTIVATIONS, "HardSwish")),
    *(("Conv", "Transpose", op) for op in _HTP_ACTIVATIONS),
    *(("Conv", op) for op in (*_HTP_ACTIVATIONS, "Clip")),
)


def _htp(*per_channel: str, groups: tuple[tuple[str, ...], ...], **more: OpSettings) -> SimConfig:
    return SimConfig(
        ops=_ON,
        params=_WEIGHTS,
        named_params=_FLOAT,
        op_types=_HTP_OPS | _per_channel(*per_channel) | more,
        supergroups=groups,
        quantizes_model_input=True,
    )


_CONVOLUTIONS = ("Conv", "ConvTranspose", "PRelu")
_V73 = _htp(
    *_CONVOLUTIONS,
    "Gemm",
    "MatMul",
    groups=_HTP_GROUPS,
    Sigmoid=_fixed(0.0, 1.0),
    Softmax=_fixed(0.0, 1.0),
    GroupNormalization=OpSettings(params={"bias": ParameterSettings(is_quantized=True)}),
)

CONFIGS: dict[str, SimConfig] = {
    "default": _DEFAULT,
    "htp_v66": _htp(
        groups=_HTP_EARLY_GROUPS, InstanceNormalization=OpSettings(), RMSNormalization=OpSettings()
    ),
    "htp_v68": _htp(*_CONVOLUTIONS, groups=_HTP_EARLY_GROUPS),
    "htp_v69": _htp(*_CONVOLUTIONS, "Gemm", "MatMul", groups=_HTP_EARLY_GROUPS),
    **dict.fromkeys(("htp_v73", "htp_v75", "htp_v79", "htp_v81", "htp_v85"), _V73),
}
"""Configurations by name: AIMET's default, and those of the versions of Qualcomm's HTP."""
