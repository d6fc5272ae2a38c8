"""One step of a training: launched kernel by kernel or, on a GPU, recorded once and launched as one CUDA graph.

A step is some hundred small kernels, which a GPU finishes faster than the host can launch them. A graph launches them
together, but always the same ones on the same memory: so batches are copied into buffers that stay where they are,
learning rates are a tensor on the device, and each kind of step has a graph of its own (NVIDIA, "Accelerating PyTorch
with CUDA Graphs"; pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from madlab.adapters.rounding import rounded
from madlab.device import autocast
from madlab.errors import MadlabError, kind_and_reason, remark
from madlab.runs.recipe import Recipe
from madlab.stored import numbers
from madlab.view import DomainView

NO_GRAPH = "none"
"""The value of `compile` that switches graphs off."""
LEAST_LOSS = 1e-12
"""By which a promise is divided at least: a loss of zero allows no step, and no promise beside it is no fault."""
WARM_UP = 3
"""Steps of each kind before it is recorded, because the first ones allocate. They are steps of the training."""


class Kind(NamedTuple):
    """What a step does besides which batch it sees.

    side: to which images are shrunk, in pixels. bits: to which the adapter is rounded. together: batches whose mean
    gradient makes one update; first, last: whether this is the first and the last of them.
    """

    side: int | None = None
    bits: int | None = None
    together: int = 1
    first: bool = True
    last: bool = True


class Step:
    """Forward, backward and optimiser on one batch, launched kernel by kernel.

    optimiser: as `make_optimiser` returns it. weights: of the classes in the loss (classes,), or None.
    """

    def __init__(
        self, view: DomainView, recipe: Recipe, optimiser: torch.optim.Optimizer, weights: Tensor | None = None
    ):
        self.view, self.recipe, self.optimiser, self.weights = view, recipe, optimiser, weights
        self.adapted = [] if recipe.finish_bits is None else list(numbers(view).values())
        self.trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.loss = torch.zeros(())  # of the batches of this step so far, added up

    def __call__(self, images: Tensor, labels: Tensor, share: float, kind: Kind) -> Tensor:
        """Take the step at `share` of the peak rates; returns the loss, a tensor on the device, before it."""
        self.set_rates(share)
        return self.run(images, labels, kind)

    def set_rates(self, share: float) -> None:
        """Give every parameter group its learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["peak"]

    def run(self, images: Tensor, labels: Tensor, kind: Kind) -> Tensor:
        """The step at the learning rates as they are."""
        if kind.first:
            self.optimiser.zero_grad()
        with rounded(self.adapted, kind.bits):
            with autocast(images.device):
                logits = self.view(images, kind.side)
                loss = entropy(logits, labels, self.weights, self.recipe.smoothing)
            (loss / kind.together).backward()
        self.loss = loss.detach() if kind.first else self.loss + loss.detach()
        if kind.last:
            if self.recipe.polyak > 0:
                self.bound_gradients(self.loss / kind.together)
            self.optimiser.step()
        return loss.detach()

    def bound_gradients(self, loss: Tensor) -> None:
        """Shorten the gradients of a step that promises to lower the loss by more than `Recipe.polyak` times the loss.

        To first order a step of rate r along a gradient g lowers the loss f by r |g|^2, and momentum m repeats it until
        it is 1 / (1 - m) times as long: the promise of a step is the sum of r |g|^2 / (1 - m) over all parameters.
        Where the loss is a parabola of curvature L with its minimum at zero, |g|^2 is 2 L f, and plain gradient descent
        is stable for rates below 2 / L: the promise of its stable steps is below 4 f. That is the bound of 4. Momentum
        is stable on a parabola beyond it, so there it is a careful choice and no proof that a longer step does harm.

        After the stochastic Polyak step size (Loizou et al., arXiv 2002.10542), the rate f / (c |g|^2), with the rates
        of all groups shortened alike. The least loss is taken to be zero, which it is not with label smoothing, weight
        decay is left out, and a gradient of the warm-up is judged at the rate of its own step, although momentum
        carries it to later, higher ones: each makes the bound looser than it could be.

        loss: of the images of the step, (). A promise that is not a number any more becomes NaN, which ends the run,
        where the infinite one would be no step.
        """
        groups = [
            (group["lr"], [p.grad for p in group["params"] if p.grad is not None])
            for group in self.optimiser.param_groups
        ]
        promises = [rate * get_total_norm(gradients) ** 2 for rate, gradients in groups if gradients]
        promise = torch.stack(promises).sum() / (1 - self.recipe.momentum)
        ratio = promise / loss.clamp(min=LEAST_LOSS)
        ratio = torch.where(ratio.isfinite(), ratio, torch.nan)
        clip_grads_with_norm_(self.trained, self.recipe.polyak, ratio)


class Recorder(Protocol):
    """What can repeat a function of no arguments that works on memory that stays: `Graphs`."""

    def aside(self, run: Callable[[], Tensor]) -> Tensor:
        """Run it, in the way in which it will be recorded."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record it without running it; what comes back runs it and returns the same tensor each time, filled anew."""


class Graphs:
    """Records CUDA graphs on one device. They share their memory, since no two of them run at the same time."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def aside(self, run: Callable[[], Tensor]) -> Tensor:
        """Run it on the stream that records, so that nothing it leaves behind belongs to another stream."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = run()
        current.wait_stream(self.stream)
        return result

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record it as a graph without running it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


@dataclass
class Recording:
    """One kind of step on batches of one shape: its input buffers, how often it was taken, and how it is repeated."""

    images: Tensor
    labels: Tensor
    taken: int = 0
    repeat: Callable[[], Tensor] | None = None


class RecordedStep(Step):
    """The same step, repeated by a recorder from the fourth of each kind on.

    Should recording fail, a warning says why in one sentence, and every step is launched kernel by kernel. A replay
    runs no Python: a network that draws from Python's `random`, or counts its calls, must not be recorded.
    """

    def __init__(
        self,
        view: DomainView,
        recipe: Recipe,
        optimiser: torch.optim.Optimizer,
        weights: Tensor | None,
        recorder: Recorder,
    ):
        super().__init__(view, recipe, optimiser, weights)
        device, groups = view.like.device, optimiser.param_groups
        self.recorder: Recorder | None = recorder
        self.recordings: dict[tuple[torch.Size, Kind], Recording] = {}
        self.peaks = torch.tensor([group["peak"] for group in groups], dtype=torch.float64, device=device)
        self.rates = torch.zeros(len(groups), device=device)  # float32, as the fused kernel reads them
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate

    def set_rates(self, share: float) -> None:
        """Fill the rates where they lie: the same products, in double precision, as in `Step`."""
        self.rates.copy_(share * self.peaks)

    def run(self, images: Tensor, labels: Tensor, kind: Kind) -> Tensor:
        """The step at the learning rates as they are."""
        if self.recorder is None:
            return super().run(images, labels, kind)
        recording = self._filled(images, labels, kind)
        if recording.repeat is not None:
            self.view.guard.check_before_forward(images)
            return recording.repeat().clone()
        try:
            return self._prepared(recording, kind, self.recorder)
        except MadlabError:
            raise
        except Exception as error:  # a network may do anything that cannot be recorded
            failure = not_recorded(error)
        # Only here the failed attempt is forgotten, with everything on the device that its traceback kept.
        remark(failure)
        self.recorder = None
        self.recordings.clear()
        return super().run(images, labels, kind)

    def _filled(self, images: Tensor, labels: Tensor, kind: Kind) -> Recording:
        key = images.shape, kind
        if key not in self.recordings:
            self.recordings[key] = Recording(torch.empty_like(images), torch.empty_like(labels))
        recording = self.recordings[key]
        recording.images.copy_(images)
        recording.labels.copy_(labels)
        return recording

    def _prepared(self, recording: Recording, kind: Kind, recorder: Recorder) -> Tensor:
        """A step of the warm-up or, when that is over, the first that is repeated."""
        run = partial(super().run, recording.images, recording.labels, kind)
        if recording.taken < WARM_UP:
            recording.taken += 1
            return recorder.aside(run)
        recording.repeat = recorder.record(run)
        return recording.repeat().clone()


def not_recorded(error: Exception) -> str:
    """The sentence for what could not be recorded; a failed recording may end with an error that hides the first."""
    cause = error.__context__ if isinstance(error.__context__, Exception) else error
    return (
        f"The training step could not be recorded as a CUDA graph ({kind_and_reason(cause)}), so its kernels are "
        f"launched one by one, with the same result more slowly: ask for that (--compile {NO_GRAPH}) to be spared this "
        "warning."
    )


def make_step(
    view: DomainView,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    weights: Tensor | None = None,
    compile: str | None = None,
) -> Step:
    """How a run takes its steps: on a GPU as CUDA graphs, elsewhere kernel by kernel.

    compile: NO_GRAPH for kernel by kernel on a GPU, too; a backend of torch.compile for that instead. Several batches
    per update (`Recipe.accumulate`) are not recorded.
    """
    device = view.like.device
    if compile is None and device.type == "cuda" and recipe.accumulate == 1:
        return RecordedStep(view, recipe, optimiser, weights, Graphs(device))
    if compile not in (None, NO_GRAPH):
        view.compile(backend=compile, dynamic=False)
    return Step(view, recipe, optimiser, weights)


def entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean cross-entropy in nats with smoothed labels, each image weighted as its class; weights: (classes,) or None.

    `F.cross_entropy` with weights would weight the smoothed share of every other class by that class instead: with few
    images in a class, each image of the others is then drawn to it, and it is all that a network answers.
    """
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    of_images = weights[labels]
    losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (of_images * losses).sum() / of_images.sum()
