"""Linear probes: the head fitted to features that stand still. All of `frozen`, and how every other method starts.

A linear head on given features has one minimum, which steps of SGD are slow to reach: after six epochs they were eight
to thirteen points below it on textures and characters. L-BFGS gets there in seconds.

For `frozen` an epoch is one pass over the augmented images, and the head is fitted to the features of that pass. The
protocol is that of Kornblith, Shlens, Le, "Do Better ImageNet Models Transfer Better?", arXiv 1805.08974: multinomial
logistic regression, with the weight decay chosen on validation. The epochs go from a strong decay to a weak one, each
from where the last one ended (a regularisation path), and the best epoch is chosen on validation as for all methods.
Where validation images are trained on, there is nothing to choose by, and every epoch has the decay in the middle.

Every other method starts with a head that is fitted to the features of the untrained domain, as in Kumar et al.,
"Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054 (LP-FT). From a random head, six epochs on few images of
many classes compare how fast heads learn, not what adapters add: `batchnorm` ended ten points below `frozen`.
"""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn

from madlab.benchmarks.domain import Domain
from madlab.device import autocast
from madlab.runs.epoch import loss_weights, training_batches
from madlab.runs.rates import head_inputs, mean_square_length
from madlab.runs.recalibrate import recalibrate
from madlab.runs.recipe import Recipe
from madlab.runs.step import entropy
from madlab.view import DomainView

STRONGEST, WEAKEST = 1e-2, 1e-6
"""Weight decay of the first and of the last epoch, for features of unit variance in all. On flowers, dtd10 and gtsrb
the best value is from 1e-5 to 1e-3."""
START = 1e-3
"""Weight decay of the fit from which the other methods start. Full MAD had 49.2 % on validation images of flowers and
gtsrb with it in a short run (data_scripts/tune.py), 47.1 with 3e-4 and 43.7 with 1e-2; from a random head 46.1."""
ENOUGH = 20_000
"""Images whose features that fit takes, at most."""
ITERATIONS = 300
"""Of L-BFGS in an epoch, at most; where they are not enough, the next epoch goes on from there."""
HISTORY = 2**30
"""Bytes that L-BFGS remembers of earlier iterations, at most, unless five of them need more: of a head of 1,000 classes
on 2,048 features, 65 iterations instead of the usual hundred."""
FAR = 1000.0
"""Loss in nats above which a head is no start. On features of length 4,500 a random head of 242 classes has 630,
and L-BFGS arrives where it does from zero; on those of 45,000 it has 6,300, and L-BFGS stays there."""


def decay_of(epoch: int, epochs: int) -> float:
    """The weight decay of an epoch, counted from 0: evenly spaced in the exponent; their middle, if it is the only one.

    It multiplies half the squared weights of a head whose features are divided by the root of their summed variance,
    so that the same value means the same for all networks.
    """
    share = epoch / (epochs - 1) if epochs > 1 else 0.5
    return float(STRONGEST * (WEAKEST / STRONGEST) ** share)


def has_linear_head(view: DomainView, images: Tensor) -> bool:
    """Whether a head's outputs on one vector per image are the logits, so that it can be fitted.

    The rare others are several heads, or one in front of a pooling; all they learn, they learn by SGD. images: a
    normalised batch, to see that on.
    """
    with head_inputs(view) as features, torch.no_grad():
        logits = view.eval()(images)
    if len(features) != 1:  # none, where the network reads its weights instead of calling it
        return False
    own, flat = view.head.get_parameter("weight"), features[0].flatten(1)
    if flat.shape != (len(images), own[0].numel()):
        return False
    with torch.no_grad():
        return torch.equal(logits, view.head(features[0]).flatten(1))


def trains_head_alone(view: DomainView) -> bool:
    """Whether there is nothing else to train, as for `frozen`."""
    groups = view.parameter_groups()
    return not groups["adapter"] and not groups["batchnorm"]


def start_head(view: DomainView, domain: Domain, recipe: Recipe, crop: int) -> None:
    """Fit the head of an untrained domain to one pass over its training images; other heads than one stay random.

    A domain that owns its BatchNorm gets its own statistics before, because the features of the base's are others than
    those that the training, which takes statistics from the batch, will see: a head fitted to either failed with the
    other. All else is left as it was. crop: side of the images in pixels.
    """
    if view.method.adapts_batchnorm:
        recalibrate(view, domain, crop, recipe.batch_size, recipe.seed, recipe.moves)
    features, labels = features_of(view.eval(), domain, recipe, crop, epoch=0, limit=ENOUGH)
    fit(view.head, features, labels, START, recipe.smoothing, loss_weights(domain, recipe))


def features_of(
    view: DomainView,
    domain: Domain,
    recipe: Recipe,
    crop: int,
    epoch: int,
    limit: int | None = None,
    on_step: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """What reaches the head in an epoch, counted from 0, of augmented images: float32 (N, F), and their labels (N,).

    limit: end after this many images. on_step is called with each batch's features. Raises MadlabError for features
    that no head can be fitted to.
    """
    labels = []
    loader = training_batches(domain, recipe, crop, epoch, domain.normalization)
    steps = None if limit is None else -(-limit // recipe.batch_size)
    with head_inputs(view) as features, torch.no_grad():
        for images, own in islice(loader, steps):
            with autocast(images.device):
                view(images)
            labels.append(own)
            if on_step is not None:
                on_step(features[-1])
    flat = torch.cat([batch.flatten(1).float() for batch in features])
    mean_square_length(flat)  # which refuses what no head can be fitted to
    return flat, torch.cat(labels)


def fit_epoch(
    view: DomainView,
    domain: Domain,
    recipe: Recipe,
    crop: int,
    epoch: int,
    on_step: Callable[[Tensor], None] | None = None,
) -> float:
    """One pass over the training images, and the head fitted to their features; returns its mean loss in nats.

    view: one that `trains_head_alone`. crop: side of the window in pixels. epoch counts from 0 and decides, with the
    recipe's seed, the windows. on_step is as in `features_of`, and so is what is raised.
    """
    features, labels = features_of(view.eval(), domain, recipe, crop, epoch, on_step=on_step)
    decay = decay_of(0, 1) if recipe.trainval else decay_of(epoch, recipe.epochs)
    return fit(view.head, features, labels, decay, recipe.smoothing, loss_weights(domain, recipe))


def fit(
    head: nn.Module, features: Tensor, labels: Tensor, decay: float, smoothing: float, weights: Tensor | None = None
) -> float:
    """Carry a linear head to the minimum of its loss; returns the mean cross-entropy there, in nats.

    features: float (N, F); labels: int64 (N,); weights: of the classes (classes,), or None. The loss is the mean
    cross-entropy with label smoothing and half the decay times the squared weights, of features that are centred, where
    the head has a bias, and divided by the root of their summed variance.
    """
    own, offset = head.get_parameter("weight"), getattr(head, "bias", None)
    mean = features.mean(0) if offset is not None else torch.zeros_like(features[0])
    centred = features - mean
    scale = centred.square().sum(1).mean().sqrt().clamp_min(1e-8)
    centred /= scale
    flat = own.detach().flatten(1).float()
    weight = (flat * scale).requires_grad_()
    bias = flat @ mean if offset is None else (offset.detach().float() + flat @ mean).requires_grad_()
    learned = [tensor for tensor in (weight, bias) if tensor.requires_grad]
    remembered = HISTORY // (8 * sum(tensor.numel() for tensor in learned))  # two vectors of float32 per iteration
    optimiser = torch.optim.LBFGS(
        learned,
        max_iter=ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=min(100, max(5, remembered)),
        line_search_fn="strong_wolfe",
    )

    def error() -> Tensor:
        return entropy(centred @ weight.T + bias, labels, weights, smoothing)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = error() + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        if error() > FAR:
            weight.zero_()
            bias.zero_()
    optimiser.step(step)
    with torch.no_grad():
        own.copy_((weight / scale).view_as(own))
        if offset is not None:
            offset.copy_(bias - weight @ mean / scale)
        return error().item()
