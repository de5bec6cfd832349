"""sharded: the batches of one process among several."""

from dataclasses import replace

from fxquant.calibration.batches import Batches, as_batches
from fxquant.errors import OptionError


def sharded(data: object, rank: int, world_size: int) -> Batches:
    """Return the batches of one process: numbers ``rank``, ``rank + world_size``, and so on, in order.

    What can be indexed (lists, data sets, arrays, a DataLoader over such a data set) loads these only;
    anything else is gone through, and others' batches are passed over. A DataLoader that shuffles does so in
    the same order in every process. One with a DistributedSampler gives each process its part already and is
    left as it is. A process may get no batch: then ``calls_of`` yields nothing.

    Args:
        data: What a user may pass as data, raw or as Batches.
        rank: Number of this process, from 0.
        world_size: Number of processes.

    Raises:
        OptionError: If there is no such rank, or the data is a part already.
    """
    batches = as_batches(data)
    if batches.world_size != 1:
        raise OptionError(
            f"The data is part {batches.rank} of {batches.world_size} already.",
            remedy="Pass the whole data to every process.",
        )
    return replace(batches, rank=rank, world_size=world_size)
