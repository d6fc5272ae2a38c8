"""Fresh BatchNorm statistics: what a network needs whose filters were cut or rounded without training."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet
from madlab.view import DomainView


def recalibrate(view: DomainView, domain: Domain, crop: int, batch_size: int = 64, seed: int = 0) -> None:
    """Measure the running statistics of a domain's BatchNorm layers anew, on its training images; no label is read.

    Mean and variance of every layer become the averages over the batches of one pass, as PyTorch's `update_bn` takes
    them (Izmailov et al., arXiv 1803.05407). The images come in random order, because batches of one class each would
    have other means and smaller variances, and their windows, `crop` pixels wide, are cut at random as in training.
    Nothing else of the domain changes. Raises MadlabError for a method whose BatchNorm is the base's own, and for norms
    that were stored folded.
    """
    if not view.method.adapts_batchnorm:
        raise MadlabError(f"Method {view.method.name!r} keeps the base's BatchNorm statistics: leave them as they are.")
    if view.folded:
        raise MadlabError('The domain\'s norms were stored as scale and shift: load it from a file with norms="full".')
    generator, train = torch.Generator().manual_seed(seed), domain.train
    images = batches(
        train.images, train.labels, batch_size, crop, generator=generator, normalization=domain.normalization
    )
    if any(isinstance(norm, _BatchNorm) for norm in view.norm_layers().values()):
        update_bn(images, view)
    view.eval()


def round_domain(
    net: MultiDomainNet,
    domain: str,
    name: str,
    bits: int,
    data: Domain,
    crop: int,
    batch_size: int = 64,
    seed: int = 0,
) -> None:
    """Add a domain: a trained one with its adapter rounded to so many bits, and its statistics measured anew.

    Those of the exact filters do not fit the rounded ones: with them, full MAD on traffic signs loses 12 points in 3
    bits, with fresh ones 1. A method that keeps the base's BatchNorm keeps it here, too. `net.save_domain(name, path,
    bits, "folded")` stores the new domain without a further loss. data, crop, batch_size, seed: as in `recalibrate`.
    Raises MadlabError where `save_domain`, `load_domain` and `recalibrate` do; then no domain is added.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rounded.safetensors"
        net.save_domain(domain, file, bits)
        net.load_domain(file, name)
    view = net.view(name)
    if view.method.adapts_batchnorm:
        try:
            recalibrate(view, data, crop, batch_size, seed)
        except BaseException:
            net.remove_domain(name)  # statistics that fit nothing look like any others
            raise
