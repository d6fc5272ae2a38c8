"""How a run trains: the settings that a person may want to change. Imports no PyTorch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypedDict

from pydantic import AfterValidator, Field, ValidationError
from pydantic.dataclasses import dataclass

from madlab.errors import MadlabError
from madlab.files.schemas import STRICT, Whole, sentence

Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
MOST_AT_ONCE = 250
"""Images of a batch in evaluation, at most."""
FINISH = 0.2
"""Share of the epochs, the last ones, in which `Recipe.finish_bits` rounds."""


def _storable(bits: int) -> int:
    if bits not in (2, 3, 4, 8):
        raise ValueError("it should be 2, 3, 4 or 8")
    return bits


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """How a run trains. The paper's hyperparameters are unknown: these are ours.

    Rates were chosen on validation images; `coarse` and `polyak` after a control whose test accuracies were seen
    (notebooks/site/fair_table.md, "What the recipe costs").

    Raises pydantic's ValidationError for a value outside its range; `make_recipe` tells it in a sentence.
    """

    epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 20
    """Passes over the training images."""
    batch_size: Annotated[Whole, Field(ge=2, le=1_000_000)] = 64
    """Images per step; BatchNorm cannot learn from a batch of one."""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    """Seed of initialisation, order and augmentation."""
    adapter_lr: Rate | None = None
    """Peak learning rate of the adapter, in units of its layers (Adapter.rate_factors); by default the method's own."""
    head_lr: Rate | None = None
    """Peak learning rate of the head; by default the method's own."""
    batchnorm_lr: Rate | None = None
    """Peak learning rate of the normalisation layers; by default the method's own."""
    adapter_decay: Rate = 0.0
    """Weight decay of the adapter, towards zero."""
    head_decay: Rate = 5e-4
    """Weight decay of the head."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD (Nesterov's); 0 is plain SGD."""
    polyak: Annotated[float, Field(ge=0)] = 4.0
    """The largest decrease that a step may promise, in multiples of the loss; longer ones are shortened. 0: any."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Label smoothing."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the training in which the rates rise; afterwards they fall to zero along a cosine."""
    coarse: Share = 0.0
    """Share of the epochs, the first ones, on images shrunk to 5/8 of the crop, which take 0.4 of the time."""
    crop: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Side of the training window in pixels; by default what the base network was trained with."""
    accumulate: Annotated[Whole, Field(ge=1, le=1_000_000)] = 1
    """Batches whose mean gradient makes one step; BatchNorm takes its statistics from each batch alone."""
    augment: Literal["none", "flip", "crop", "trivial"] = "crop"
    """How training images vary: none, flip, crop (random windows, too), trivial (TrivialAugmentWide, too)."""
    balance: Literal["none", "loss", "sampler"] = "none"
    """Make unequal classes count alike: by weights in the loss, or by drawing images of rare classes more often."""
    size: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Short side to which images are scaled, in pixels; by default the base network's. The crop changes with it."""
    finish_bits: Annotated[Whole, AfterValidator(_storable)] | None = None
    """Round the adapter to this many bits (2, 3, 4 or 8) in the last fifth of the epochs, and store it that way."""
    trainval: bool = False
    """Train on training and validation images together, for a number of epochs chosen before; nothing is validated."""

    def bits(self, epoch: int) -> int | None:
        """The bits to which the adapter is rounded in this epoch, counted from 0; None where it is not.

        It is rounded in the last fifth of the epochs and at least in one, in training and in validation, with
        straight-through gradients (`adapters.rounding.rounded`).
        """
        return self.finish_bits if epoch >= self.epochs - max(1, round(FINISH * self.epochs)) else None

    @property
    def moves(self) -> bool:
        """Whether the windows of training images are cut at random, and not from the centre."""
        return self.augment in ("crop", "trivial")

    @property
    def at_once(self) -> int:
        """Images of a batch in evaluation, which needs a fraction of a step's memory per image."""
        return min(MOST_AT_ONCE, 4 * self.batch_size)

    def may_keep(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, may be the best: of a run that rounds, only those that were rounded."""
        return self.finish_bits is None or self.bits(epoch) is not None


class RecipeOptions(TypedDict, total=False):
    """The fields of `Recipe` as keyword arguments, for editors and type checkers (a test holds the two together)."""

    epochs: int
    batch_size: int
    seed: int
    adapter_lr: float | None
    head_lr: float | None
    batchnorm_lr: float | None
    adapter_decay: float
    head_decay: float
    momentum: float
    polyak: float
    smoothing: float
    warmup: float
    coarse: float
    crop: int | None
    accumulate: int
    augment: str
    balance: str
    size: int | None
    finish_bits: int | None
    trainval: bool


def make_recipe(options: Mapping[str, Any]) -> Recipe:
    """A recipe from its fields by name; MadlabError for an unknown name and for a value out of range."""
    known = [field.name for field in fields(Recipe)]
    for name in options:
        if name not in known:
            raise MadlabError(f"Unknown option {name!r}: a recipe has {', '.join(known)}.")
    try:
        return Recipe(**options)
    except ValidationError as error:
        raise MadlabError(f"The recipe cannot be used: {sentence(error)}.") from None
