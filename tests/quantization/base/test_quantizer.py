"""QuantizerBase: what every quantizer module does, shown with the simplest one there is."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from fxquant.errors import NotCalibratedError, QuantizerError
from fxquant.quantization import DequantizedTensor, MinMaxEncodingAnalyzer
from fxquant.quantization.affine import AffineEncoding
from fxquant.quantization.base import QuantizerBase


class Largest(QuantizerBase):
    """Keeps one number: the largest value seen, in steps of a tenth of which it rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding_analyzer = MinMaxEncodingAnalyzer(())
        self._overwrite_allowed = {"largest": True}
        self.register_quantization_parameter("largest", nn.Parameter(torch.tensor(1.0)))

    @classmethod
    def from_encodings(cls, encodings: AffineEncoding) -> "Largest":
        return cls()

    def get_encodings(self) -> AffineEncoding | None:
        return self._with(self.largest) if self.is_initialized() else None

    def set_range_from_stats(self) -> None:
        with torch.no_grad():
            self.largest.copy_(self.encoding_analyzer.compute_encodings(10, False)[1])

    def _with(self, largest: torch.Tensor) -> AffineEncoding:
        return AffineEncoding(largest / 10, torch.zeros_like(largest), 0, 10, producer=self)

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return self._carrying(encoding.quantize_dequantize(input), encoding)

    def _dynamic_encoding(self, statistics: Any) -> AffineEncoding:
        return self._with(self.encoding_analyzer.compute_encodings_from_stats(statistics, 10, False)[1])

    def _encoding_of_nothing(self) -> AffineEncoding:
        return self._with(torch.tensor(10.0))


@pytest.fixture
def quantizer() -> Largest:
    """Return a quantizer without a range."""
    return Largest()


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        QuantizerBase()


def test_the_output_carries_the_encoding(quantizer: Largest) -> None:
    quantizer.calibrate(torch.tensor([10.0]))
    output = quantizer(torch.tensor([3.4]))
    assert (type(output), output.tolist(), output.encoding.producer) == (DequantizedTensor, [3.0], quantizer)


def test_the_input_is_plain_inside(quantizer: Largest) -> None:
    seen: list[type] = []
    quantizer._quantized = lambda input, encoding: (seen.append(type(input)), input)[1]  # type: ignore[method-assign]
    quantizer.calibrate(torch.ones(1))
    quantizer(DequantizedTensor(torch.ones(1))), quantizer(nn.Parameter(torch.ones(1)))
    assert seen == [torch.Tensor, torch.Tensor]


def test_without_a_range_it_says_what_to_do(quantizer: Largest) -> None:
    message = "Failed to run Largest since quantization parameters are not initialized. Please initialize"
    with pytest.raises(NotCalibratedError, match=message):
        quantizer(torch.ones(1))


def test_an_empty_tensor_needs_no_range_and_is_not_observed(quantizer: Largest) -> None:
    with quantizer.compute_encodings():
        assert quantizer(torch.empty(0)).shape == (0,)
    assert not quantizer.is_initialized()


def test_calls_in_calibration_use_the_range_of_their_input(quantizer: Largest) -> None:
    with quantizer.compute_encodings():
        outputs = [quantizer(torch.tensor([largest, 3.4])).tolist() for largest in (100.0, 10.0)]
    assert outputs == [[100.0, 0.0], [10.0, 3.0]]
    assert quantizer.largest.item() == 100.0


def test_an_exception_writes_nothing_and_ends_the_calibration(quantizer: Largest) -> None:
    quantizer.calibrate(torch.tensor([10.0]))
    with pytest.raises(RuntimeError, match="invalid for input of size"), quantizer.compute_encodings():
        quantizer(torch.tensor([99.0])).view(7)
    assert quantizer.largest.item() == 10.0
    assert quantizer(torch.tensor([99.0])).item() == 10.0


def test_calibration_without_data_leaves_the_range(quantizer: Largest) -> None:
    with quantizer.compute_encodings():
        pass
    assert not quantizer.is_initialized()


def test_what_was_seen_before_is_forgotten(quantizer: Largest) -> None:
    quantizer.calibrate(torch.tensor([99.0]))
    quantizer.calibrate(torch.tensor([10.0]))
    assert quantizer.largest.item() == 10.0


def test_calibrating_with_nothing_changes_nothing(quantizer: Largest) -> None:
    quantizer.calibrate(torch.empty(0))
    assert not quantizer.is_initialized()


def test_a_quantizer_without_an_analyzer_runs_as_ever_in_calibration(quantizer: Largest) -> None:
    quantizer.calibrate(torch.tensor([10.0]))
    quantizer.encoding_analyzer = None
    with quantizer.compute_encodings():
        assert quantizer(torch.tensor([99.0])).item() == 10.0
    quantizer.calibrate(torch.tensor([99.0]))
    assert quantizer.largest.item() == 10.0


def test_a_frozen_quantizer_runs_as_ever_in_calibration(quantizer: Largest) -> None:
    quantizer.calibrate(torch.tensor([10.0]))
    quantizer.allow_overwrite(largest=False)
    with quantizer.compute_encodings():
        assert quantizer(torch.tensor([99.0])).item() == 10.0
    assert quantizer.largest.item() == 10.0


@pytest.mark.parametrize("mode", [True, False])
def test_the_name_of_old_still_freezes(quantizer: Largest, mode: bool) -> None:
    quantizer._allow_overwrite = mode
    assert quantizer._allow_overwrite is mode
    assert quantizer.is_overwrite_allowed("largest") is mode


def test_an_unknown_name_cannot_be_frozen(quantizer: Largest) -> None:
    with pytest.raises(
        QuantizerError, match=r"expected param names \['largest'\]; got unexpected .* \['foo'\]"
    ):
        quantizer.allow_overwrite(foo=True)


def test_calibrations_may_be_nested(quantizer: Largest) -> None:
    other = Largest()
    with quantizer.compute_encodings():
        quantizer(torch.tensor([1.0]))
        with other.compute_encodings():
            other(quantizer(torch.tensor([7.0])))
    assert (quantizer.largest.item(), other.largest.item()) == (7.0, 7.0)


def test_a_quantizer_calibrates_without_gradients_in_its_statistics(quantizer: Largest) -> None:
    x = torch.tensor([3.0], requires_grad=True)
    with quantizer.compute_encodings():
        quantizer(x * 2)
    assert (quantizer.largest.item(), quantizer.largest.requires_grad) == (6.0, True)


def test_a_copy_made_during_calibration_has_statistics_of_its_own(quantizer: Largest) -> None:
    with quantizer.compute_encodings():
        quantizer(torch.tensor([1.0]))
        copied = copy.deepcopy(quantizer)
        copied(torch.tensor([50.0]))
    assert quantizer.largest.item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_casts_of_a_model_leave_the_range_in_float32(quantizer: Largest, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(1, 1), quantizer).to(dtype)
    assert (model[0].weight.dtype, quantizer.largest.dtype) == (dtype, torch.float32)


def test_casts_of_a_model_move_the_range(quantizer: Largest) -> None:
    assert nn.Sequential(quantizer).to("meta", torch.float16)[0].largest.device.type == "meta"


def test_a_range_given_without_extra_state_counts_as_set(quantizer: Largest) -> None:
    quantizer.load_state_dict({"largest": torch.tensor(2.0)})
    assert (quantizer.is_initialized(), quantizer.largest.item()) == (True, 2.0)


def test_a_fresh_state_takes_the_range_away(quantizer: Largest) -> None:
    quantizer.calibrate(torch.ones(1))
    quantizer.load_state_dict(Largest().state_dict())
    assert not quantizer.is_initialized()
