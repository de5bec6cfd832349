"""Train DigitsNet on the digits of scikit-learn and write `digits.safetensors` beside this file.

Run `python examples/digits/train.py`. It takes about half a minute on two idle CPU cores. The seed is fixed
and the last epoch is kept, so the held-out images choose nothing: they are only counted at the end.

Weights are rounded to float16, because the file lives in the repository and should stay small. What is
counted is the network as loaded from that file, so the accuracy reported is the one that everybody gets.
"""

import logging

import torch
import torch.nn.functional as F
from data import Split, load_split
from model import WEIGHTS, DigitsNet, load_trained
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

SEED = 0
THREADS = 2  # float sums depend on how they are split over threads
EPOCHS = 60
BATCH = 64
MAX_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
MAX_SHIFT = 2  # pixels of the 16x16 image: one of the raw 8x8


def train(split: Split) -> DigitsNet:
    """Train a new network on the training part of `split` and return it in eval mode.

    The global seed of torch is set, and used for the initial weights, the order of images and the shifts.
    """
    torch.manual_seed(SEED)
    model = DigitsNet()
    images, labels = split.train_images, split.train_labels
    steps_per_epoch = len(labels) // BATCH  # the incomplete last batch would disturb the batch norms
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, MAX_LEARNING_RATE, total_steps=EPOCHS * steps_per_epoch
    )
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(labels))[: steps_per_epoch * BATCH]
        loss_sum = 0.0
        for batch in order.split(BATCH):
            scores = model(shift_randomly(images[batch]))
            loss = F.cross_entropy(scores, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
        if epoch % 10 == 0:
            log.info("epoch %d of %d: mean loss %.4f", epoch, EPOCHS, loss_sum / steps_per_epoch)
    return model.eval()


def shift_randomly(images: Tensor) -> Tensor:
    """Move each image of [N, 1, H, W] by up to MAX_SHIFT pixels each way; paper (0) fills the gap."""
    count, _, height, width = images.shape
    padded = F.pad(images, [MAX_SHIFT] * 4)
    top, left = torch.randint(0, 2 * MAX_SHIFT + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, :, None]
    columns = (left + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], 0, rows, columns].unsqueeze(1)


def save(model: DigitsNet) -> None:
    """Write the parameters and buffers of `model` to WEIGHTS by the rule of `load_trained`."""
    state = {name: value.half() for name, value in model.state_dict().items() if value.is_floating_point()}
    save_file(state, WEIGHTS)
    log.info("wrote %s, %d bytes", WEIGHTS.name, WEIGHTS.stat().st_size)


@torch.no_grad()
def count_correct(model: torch.nn.Module, images: Tensor, labels: Tensor) -> int:
    """Count the images [N, 1, 16, 16] whose highest score is at their label [N]."""
    return int((model(images).argmax(dim=1) == labels).sum())


def main() -> None:
    """Train, write the weights, load them again, and report both accuracies with their counts."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    split = load_split()
    save(train(split))
    model = load_trained()
    for name, images, labels in (
        ("train", split.train_images, split.train_labels),
        ("held-out", split.test_images, split.test_labels),
    ):
        correct = count_correct(model, images, labels)
        log.info("%s: %d of %d correct (%.2f %%)", name, correct, len(labels), 100 * correct / len(labels))


if __name__ == "__main__":
    main()
