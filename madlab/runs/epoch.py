"""One epoch of one domain: a pass over its training images, what it costs, and the accuracy on another split."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.benchmarks.domain import Domain, Split
from madlab.benchmarks.loader import batches, steps_of
from madlab.device import autocast
from madlab.errors import MadlabError, kind_and_reason
from madlab.forward import laid_out
from madlab.runs.rates import peak_rates, warmup_cosine
from madlab.runs.recipe import MOST_AT_ONCE, Recipe
from madlab.runs.step import Kind, Step
from madlab.sizes import ImageSize, image_size
from madlab.view import DomainView

COARSE_SIDE = 0.625
"""Side of the images of the first, coarse epochs, as a share of the crop."""


class Diverged(MadlabError):
    """The loss or what was learned is no longer a number."""


def crop_of(size: ImageSize, side: int, recipe: Recipe) -> int:
    """Side of the window that is cut from images of `side` pixels: the recipe's crop, else that of the network's size.

    Where the recipe has a size of its own, it is the same share of it. Raises MadlabError for a crop that is larger
    than the images.
    """
    own = size.crop_from(side) if recipe.size is None else round(side * size.crop / size.resize)
    crop = recipe.crop or own
    if crop > side:
        raise MadlabError(f"The crop of {crop} pixels is larger than the images of {side}: choose a smaller crop.")
    return crop


def training_batches(
    domain: Domain, recipe: Recipe, crop: int, epoch: int, normalization: dict[str, list[float]] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The (images, labels) of an epoch, counted from 0, in its order and augmented as the recipe says.

    It seeds PyTorch's generator, from which the dropout of the network and TrivialAugmentWide draw, and one of its own.
    """
    torch.manual_seed(recipe.seed * 10007 + epoch)
    generator = torch.Generator().manual_seed(recipe.seed * 10007 + epoch)
    train = domain.train
    return batches(
        train.images,
        train.labels,
        recipe.batch_size,
        crop,
        domain.flip,
        generator,
        normalization,
        recipe.augment,
        class_weights(domain)[train.labels] if recipe.balance == "sampler" else None,
    )


def class_weights(domain: Domain) -> Tensor:
    """Weights (classes,) in inverse proportion to a class's training images; summed over the images, their number.

    A class without images, which no weight could help, gets that of a class with one.
    """
    labels = domain.train.labels
    images = labels.bincount(minlength=domain.num_classes).clamp(min=1)
    return len(labels) / (len(images) * images)


def loss_weights(domain: Domain, recipe: Recipe) -> Tensor | None:
    """The classes' weights in the loss, where the recipe balances there."""
    return class_weights(domain) if recipe.balance == "loss" else None


def train_epoch(
    view: DomainView,
    domain: Domain,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    on_step: Callable[[Tensor], None] | None = None,
    step: Step | None = None,
) -> float:
    """Train a view for one pass over its domain's training images; returns the mean loss in nats.

    optimiser: as `make_optimiser` returns it. epoch counts from 0; together with the recipe's seed it decides all
    random numbers. on_step gets the loss of each step as a tensor on the device: reading its value means waiting for
    the device. step: of this view and optimiser, as `make_step` returns it; kernel by kernel unless given. Afterwards
    the view is in eval mode. Raises Diverged when the loss is no longer a number.
    """
    view.train()
    train, crop = domain.train, crop_of(image_size(view.network), domain.size, recipe)
    steps = steps_of(len(train), recipe.batch_size)
    loader = training_batches(domain, recipe, crop, epoch, domain.normalization)
    step = step or Step(view, recipe, optimiser, loss_weights(domain, recipe))
    side = round(COARSE_SIDE * crop) if epoch < recipe.coarse * recipe.epochs else None
    total = torch.zeros((), device=train.images.device)
    for number, (images, labels) in enumerate(loader):
        share = warmup_cosine((epoch + number / steps) / recipe.epochs, recipe.warmup)
        if math.ceil(steps / recipe.accumulate) * recipe.epochs == 1:  # either end of the schedule trains nothing
            share = 1.0
        loss = step(images, labels, share, _kind(recipe, side, recipe.bits(epoch), number, steps))
        total += loss
        if on_step is not None:
            on_step(loss)
    view.eval()
    mean = (total / steps).item()
    if not math.isfinite(mean):
        raise diverged(f"The loss became {mean}", view, recipe, epoch)
    return mean


def _kind(recipe: Recipe, side: int | None, bits: int | None, number: int, steps: int) -> Kind:
    """What step `number` of an epoch, counted from 0, does: the last batches of an epoch may be fewer together."""
    place = number % recipe.accumulate
    together = min(recipe.accumulate, steps - number + place)
    return Kind(side, bits, together, first=place == 0, last=place + 1 == together)


def check_sides(view: DomainView, images: Tensor, recipe: Recipe) -> None:
    """Raise MadlabError if the domain's network does not run on images of every size that the run will show it.

    images: a normalised batch, as large as the windows of the run.
    """
    crop = images.shape[-1]
    for side, remedy in ((crop, "another crop or size"), (round(COARSE_SIDE * crop), "coarse=0")):
        try:
            if side == crop or recipe.coarse > 0:
                with torch.no_grad():
                    view.eval()(images, None if side == crop else side)
        except Exception as error:  # the network's own code may raise anything
            raise MadlabError(
                f"The network does not run on images of {side} pixels ({kind_and_reason(error)}): choose {remedy}."
            ) from error


@dataclass(frozen=True)
class Measured:
    """How a network does on a split, in the split's order.

    correct: bool (N,). loss: mean cross-entropy in nats. labels: int64 (N,). probabilities: float32 (N, classes), rows
    that add up to 1.
    """

    correct: Tensor
    loss: float
    labels: Tensor
    probabilities: Tensor

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * int(self.correct.sum()) / len(self.correct)

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes that occur of the share of their images that is right, in percent."""
        images = self.labels.bincount()
        right = self.labels[self.correct].bincount(minlength=len(images))
        return 100 * (right[images > 0] / images[images > 0]).mean().item()


@torch.no_grad()
def logits_of(
    network: nn.Module, images: Tensor, normalization: dict[str, list[float]], crop: int, at_once: int = MOST_AT_ONCE
) -> Iterator[Tensor]:
    """Logits (B, classes) of the centre crops of uint8 images (N, H, W, 3), in their order, `at_once` at a time."""
    no_labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for batch, _ in batches(images, no_labels, at_once, crop, normalization=normalization):
        with autocast(images.device):
            logits = network(laid_out(batch, network))
        yield logits.float()


@torch.no_grad()
def measure(
    network: nn.Module, split: Split, normalization: dict[str, list[float]], crop: int, at_once: int = MOST_AT_ONCE
) -> Measured:
    """Run a network in eval mode on the centre crops of a split, `at_once` images at a time."""
    correct, probabilities, loss = [], [], torch.zeros((), device=split.images.device)
    parts = logits_of(network, split.images, normalization, crop, at_once)
    for logits, labels in zip(parts, split.labels.split(at_once), strict=True):
        correct.append(logits.argmax(1) == labels)
        probabilities.append(logits.softmax(1))
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
    return Measured(torch.cat(correct), loss.item() / len(split), split.labels, torch.cat(probabilities))


def diverged(what: str, view: DomainView, recipe: Recipe, epoch: int) -> Diverged:
    """The error for a training that went wrong in `epoch`, counted from 0; `what` begins the sentence."""
    rates = ", ".join(
        f"{kind}_lr {rate:g}" for kind, rate in peak_rates(view.method, view.facts.options, recipe).items()
    )
    return Diverged(f"{what} in epoch {epoch + 1}: lower the learning rates (now {rates}).")


class Cost:
    """What a training takes: what passed through it since it began or was resumed; device: the one that trains."""

    def __init__(self, device: torch.device):
        self.device = device
        self.images, self.seconds = 0, 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextmanager
    def of(self, images: int) -> Iterator[None]:
        """Within this, that many images are trained on."""
        began = time.perf_counter()
        yield
        self.images, self.seconds = self.images + images, self.seconds + time.perf_counter() - began

    def told(self) -> dict[str, float]:
        """As `Result.cost` has it; without images, as in a run that was stopped just before its end, no speed."""
        speed = {"images_per_second": round(self.images / self.seconds, 1)} if self.images else {}
        peak = peak_bytes(self.device)
        return speed | ({} if peak is None else {"peak_bytes": peak})


def peak_bytes(device: torch.device) -> int | None:
    """The most memory in bytes: on a GPU, of tensors since a `Cost` was made; else of the process since it started.

    None where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with the peak of the process that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in fields:  # not every sandbox has it
            return 1024 * int(fields["VmHWM"].split()[0])
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
