"""einsum_indices: the indices that an einsum's equation gives each dimension."""

import string
from collections import Counter
from collections.abc import Sequence


def einsum_indices(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the indices of each operand and of the output, a letter per dimension, also under an ellipsis.

    Args:
        equation: What torch.einsum is given; without "->" the output has the indices that appear once, in
            alphabetical order, behind those of an ellipsis.
        ranks: The number of dimensions of each operand.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    texts = inputs.split(",")
    hidden = [rank - len(text.replace("...", "")) for text, rank in zip(texts, ranks, strict=True)]
    free = "".join(sorted(set(string.ascii_letters) - set(equation)))
    operands = [text.replace("...", _last(free, count)) for text, count in zip(texts, hidden, strict=True)]
    all_hidden = _last(free, max(hidden)) if "..." in inputs else ""
    if arrow:
        return operands, output.replace("...", all_hidden)
    counts = Counter(index for index in "".join(operands) if index not in all_hidden)
    return operands, all_hidden + "".join(sorted(index for index, count in counts.items() if count == 1))


def _last(letters: str, count: int) -> str:
    return letters[len(letters) - count :]
