"""Fresh BatchNorm statistics: what a network needs whose filters were cut or rounded without training."""

import copy
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from madlab.adapters.base import whole_number
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet
from madlab.view import DomainView


def old_share(view: DomainView, steps: int) -> float:
    """How much of a domain's running statistics is older than the last `steps` batches, at most; 0 without any.

    A norm with momentum m takes in a share m of each batch; one without averages all batches that it ever saw.
    """
    norms = [norm for norm in view.norm_layers().values() if isinstance(norm, _BatchNorm)]
    return max((1.0 if norm.momentum is None else (1 - norm.momentum) ** steps for norm in norms), default=0.0)


def recalibrate(
    view: DomainView, domain: Domain, crop: int, batch_size: int = 64, seed: int = 0, moves: bool = True
) -> None:
    """Measure the running statistics of a domain's BatchNorm layers anew, on its training images; no label is read.

    Mean and variance of every layer become the averages over the batches of one pass, as PyTorch's `update_bn` takes
    them (Izmailov et al., arXiv 1803.05407). They are all of one size, at most batch_size, because a last one of two
    images would count as much as the others; what does not divide, fewer images than there are batches, is left out.
    The images come in random order, because batches of one class each would have other means and smaller variances,
    normalised as the domain's network expects them, and their windows, `crop` pixels wide, are cut at random, unless
    `moves` is False, which takes the centre. Dropout and the like stay off, as in use.

    Nothing else of the domain changes, and nothing at all if there is an error; it is in eval mode afterwards. Raises
    MadlabError for a method whose BatchNorm is the base's own, for norms that were stored folded, for windows wider
    than the images, for batches of fewer than two images, and if the base was changed.
    """
    if not view.method.adapts_batchnorm:
        raise MadlabError(f"Method {view.method.name!r} keeps the base's BatchNorm statistics: leave them as they are.")
    if view.folded:
        raise MadlabError('The domain\'s norms were stored as scale and shift: load it from a file with norms="full".')
    if not 1 <= (whole_number(crop) or 0) <= domain.size:
        raise MadlabError(f"Windows of {crop} pixels cannot be cut from images of {domain.size}: choose at most that.")
    if (whole_number(batch_size) or 0) < 2:
        raise MadlabError(f"Batches of {batch_size!r:.60} images have no variance: choose a whole number from 2.")
    generator, train = torch.Generator().manual_seed(seed), domain.train
    count = math.ceil(len(train) / batch_size)
    batch_size = max(2, len(train) // count)
    normalization = dict(view.facts.normalization) or domain.normalization
    images = batches(
        train.images,
        train.labels,
        batch_size,
        crop,
        generator=generator,
        normalization=normalization,
        augment="crop" if moves else "none",
    )
    norms = [norm for norm in view.norm_layers().values() if isinstance(norm, _BatchNorm)]
    momenta, before = [norm.momentum for norm in norms], [copy.deepcopy(norm.state_dict()) for norm in norms]
    try:
        if norms:
            update_bn(islice(images, count), _OnlyNormsLearn(view, norms))
            for norm, state in zip(norms, before, strict=True):
                if norm.num_batches_tracked is not None and norm.num_batches_tracked == 0:
                    norm.load_state_dict(state)  # it takes no statistics from batches, and keeps those that it has
    except BaseException:
        for norm, momentum, state in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            norm.load_state_dict(state)
        raise
    finally:
        view.eval()


class _OnlyNormsLearn(nn.Module):
    """A domain whose norms alone follow the mode, so that no dropout changes what they are to measure.

    They are all that `update_bn` is to see: where the network has other BatchNorm layers (those of auxiliary outputs,
    which are off in use), the domain shares them with the base, and it would reset their statistics.
    """

    def __init__(self, view: DomainView, norms: Sequence[nn.Module]):
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.own = (view,)  # inside a tuple, it is none of this module's modules

    def forward(self, images: Tensor) -> Tensor:
        return self.own[0](images)

    def train(self, mode: bool = True) -> "_OnlyNormsLearn":
        self.own[0].eval()
        self.norms.train(mode)
        return self


def round_domain(
    net: MultiDomainNet,
    domain: str,
    name: str,
    bits: int,
    data: Domain,
    crop: int,
    batch_size: int = 64,
    seed: int = 0,
    moves: bool = True,
) -> None:
    """Add a domain: a trained one with its adapter rounded to this many bits, and its statistics measured anew.

    Those of the exact filters do not fit the rounded ones. A method that keeps the base's BatchNorm keeps it here, too.
    `net.save_domain(name, path, bits, "folded")` stores the new domain and takes no more of its adapter. data, crop,
    batch_size, seed, moves: as in `recalibrate`. Raises MadlabError where `save_domain`, `load_domain` and
    `recalibrate` do; then no domain is added.
    """
    if name in net.domains:
        raise MadlabError(f"There is already a domain {name!r}: choose another name or remove it first.")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rounded.safetensors"
        net.save_domain(domain, file, bits)
        net.load_domain(file, name)
    view = net.view(name)
    if view.method.adapts_batchnorm:
        try:
            recalibrate(view, data, crop, batch_size, seed, moves)
        except BaseException:
            net.remove_domain(name)  # statistics that fit nothing look like any others
            raise
