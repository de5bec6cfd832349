"""A sample of the zoo through every verb; `make zoo` takes all of it."""

import pytest

from tests.zoo.architectures import SAMPLE
from tests.zoo.journey import travel


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLE)
def test_architecture_is_captured_covered_and_verified(name):
    journey = travel(name)
    assert (journey.way, journey.is_equal, journey.opaque) == ("recorded", True, ())
    assert journey.macs >= 0.99
    assert (journey.failure, journey.max_steps <= 1) == ("", True)
