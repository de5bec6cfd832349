"""Soc: Qualcomm's chips by name, as the QNN provider knows them."""

from dataclasses import dataclass

from fxquant.errors import unknown_option

DEFAULT_SOC = "sm8650"


@dataclass(frozen=True, kw_only=True)
class Soc:
    """A chip.

    Attributes:
        name: Its name in lower case.
        model: Its number in the QNN SDK, the provider's ``soc_model``; it fixes architecture and memory.
        architecture: Version of its Hexagon tensor processor.
        description: Its name on the market.
    """

    name: str
    model: int
    architecture: int
    description: str

    @property
    def has_float16(self) -> bool:
        """Whether its tensor processor runs float16; the simulator of an older one runs float32 instead."""
        return self.architecture >= 73

    def __str__(self) -> str:
        return f"{self.name.upper()} ({self.description}), HTP V{self.architecture}"


# Numbers verified in compiled context binaries, which hold soc_type and arch.
SOCS = {
    soc.name: soc
    for soc in (
        Soc(name="sm8350", model=30, architecture=68, description="Snapdragon 888"),
        Soc(name="sm8450", model=36, architecture=69, description="Snapdragon 8 Gen 1"),
        Soc(name="sm8550", model=43, architecture=73, description="Snapdragon 8 Gen 2"),
        Soc(name="x_elite", model=60, architecture=73, description="Snapdragon X Elite"),
        Soc(name="sm8650", model=57, architecture=75, description="Snapdragon 8 Gen 3"),
        Soc(name="sm8750", model=69, architecture=79, description="Snapdragon 8 Elite"),
        Soc(name="sm8850", model=87, architecture=81, description="Snapdragon 8 Elite Gen 5"),
    )
}


def get_soc(name: str) -> Soc:
    """Return a chip by name.

    Raises:
        OptionError: If it is not known.
    """
    try:
        return SOCS[name.lower()]
    except KeyError:
        raise unknown_option("chip", name, SOCS) from None
