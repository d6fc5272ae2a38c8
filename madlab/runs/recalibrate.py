"""Fresh BatchNorm statistics: what a network needs whose filters were changed without training, as by a cut."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.view import DomainView


def recalibrate(view: DomainView, domain: Domain, crop: int, batch_size: int = 64, seed: int = 0) -> None:
    """Measure the running statistics of a domain's BatchNorm layers anew, on its training images; no label is read.

    Mean and variance of every layer become the averages over the batches of one pass, as PyTorch's `update_bn` takes
    them (Izmailov et al., arXiv 1803.05407). The images come in random order, because batches of one class each would
    have other means and smaller variances, and their windows, `crop` pixels wide, are cut at random as in training.
    Nothing else of the domain changes. Raises MadlabError for a method whose BatchNorm is the base's own.
    """
    if not view.method.adapts_batchnorm:
        raise MadlabError(f"Method {view.method.name!r} keeps the base's BatchNorm statistics: leave them as they are.")
    generator, train = torch.Generator().manual_seed(seed), domain.train
    images = batches(
        train.images, train.labels, batch_size, crop, generator=generator, normalization=domain.normalization
    )
    if any(isinstance(norm, _BatchNorm) for norm in view.norm_layers().values()):
        update_bn(images, view)
    view.eval()
