import pytest

from fxquant.quantization import QuantizationSpec
from fxquant.quantization.float import FloatType
from fxquant.targets import LayerSizes, get_target
from fxquant.targets.tensorrt_sizes import small_convolution, small_product

INT8, INT4 = QuantizationSpec(), QuantizationSpec(bitwidth=4)
FLOAT8 = QuantizationSpec(float_type=FloatType.of_onnx("float8e4m3fn"))


def convolution(depth: int, columns: int, *kernel: int, **more: int) -> LayerSizes:
    return LayerSizes(depth=depth, columns=columns, kernel=kernel, **more)


@pytest.mark.parametrize(
    ("sizes", "weight"),
    [
        pytest.param(convolution(16, 16, 1, 1), INT8, id="16_channels"),
        pytest.param(convolution(3, 16, 3, 3), INT8, id="wide_enough_on_one_side"),
        pytest.param(convolution(3, 8, 3, 3, is_first=True), INT8, id="first_of_8"),
        pytest.param(convolution(1, 24, 3, 3, groups=24), INT8, id="depthwise"),
        pytest.param(convolution(17, 17, 5, 5), FLOAT8, id="float8_of_17"),
        pytest.param(LayerSizes(), INT8, id="unknown"),
    ],
)
def test_convolution_with_a_fast_kernel_has_no_reason_to_stay_float(
    sizes: LayerSizes, weight: QuantizationSpec
) -> None:
    assert small_convolution(sizes, weight) == ""


@pytest.mark.parametrize(
    ("sizes", "weight", "rule"),
    [
        pytest.param(convolution(8, 8, 3, 3), INT8, "P13", id="narrow"),
        pytest.param(convolution(3, 7, 3, 3, is_first=True), INT8, "P13", id="first_of_7"),
        pytest.param(convolution(16, 8, 1, 3), INT8, "P13", id="not_square"),
        pytest.param(convolution(1, 24, 1, 1, groups=24), INT8, "P13", id="grouped_points"),
        pytest.param(convolution(1, 20, 3, 3, groups=20), INT8, "P13", id="depthwise_of_20"),
        pytest.param(convolution(16, 64, 3, 3), FLOAT8, "P14", id="float8_of_16"),
        pytest.param(convolution(64, 64, 7, 7), FLOAT8, "P14", id="float8_of_49_taps"),
    ],
)
def test_convolution_without_one_stays_float_by_its_rule(
    sizes: LayerSizes, weight: QuantizationSpec, rule: str
) -> None:
    assert small_convolution(sizes, weight).startswith(rule)


@pytest.mark.parametrize(
    ("sizes", "weight", "rule"),
    [
        pytest.param(LayerSizes(rows=1, depth=64, columns=64), INT8, "P12", id="a_row"),
        pytest.param(LayerSizes(depth=64, columns=1), INT8, "P12", id="a_column"),
        pytest.param(LayerSizes(depth=15, columns=64), FLOAT8, "P12", id="short_sums"),
        pytest.param(LayerSizes(depth=64, columns=15), INT8, "P12", id="few_columns"),
        pytest.param(LayerSizes(depth=5, columns=3), INT4, "A12", id="odd_count_of_4_bits"),
        pytest.param(LayerSizes(depth=16, columns=16), INT8, "", id="a_tile"),
        pytest.param(LayerSizes(rows=1, depth=4, columns=4), INT4, "", id="stored_in_4_bits"),
        pytest.param(LayerSizes(), INT8, "", id="unknown"),
    ],
)
def test_product_stays_float_by_its_rule(sizes: LayerSizes, weight: QuantizationSpec, rule: str) -> None:
    assert small_product(sizes, weight).partition(":")[0] == rule


def test_four_bit_scheme_says_why_convolutions_stay_float() -> None:
    rule = get_target("tensorrt:w4").rule("conv2d")
    assert (rule.placement.value, rule.why[:3]) == ("float", "A14")


def test_float8_scheme_has_one_weight_scale_for_a_transposed_convolution() -> None:
    weight = get_target("tensorrt:fp8").rule("conv_transpose2d").weight
    assert weight is not None
    assert (str(weight), weight.channel_axis) == ("float8_e4m3fn", None)
