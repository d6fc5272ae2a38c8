"""Answers to the exercises of notebook 05."""

import torch
from torch import nn
from torch.nn import functional as F


def by_broadcast(x, conv, beta, gamma):
    weight = conv.weight * (beta @ gamma)[:, :, None, None]
    return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation)


def by_einsum(x, conv, beta, gamma):
    weight = torch.einsum("mi,in,mnhw->mnhw", beta, gamma, conv.weight)
    return conv._conv_forward(x, weight, conv.bias)


def by_directions(x, conv, beta, gamma):
    """One convolution per direction: a gain in front of each input, a gain behind each output."""
    total = 0
    for column, row in zip(beta.T, gamma, strict=True):
        y = F.conv2d(x * row[:, None, None], conv.weight, None, conv.stride, conv.padding, conv.dilation)
        total = total + y * column[:, None, None]
    return total if conv.bias is None else total + conv.bias[:, None, None]


def in_place(x, conv, beta, gamma):
    conv.weight.data *= (beta @ gamma).detach()[:, :, None, None]
    return conv(x)


@torch.no_grad()
def without_gradient(x, conv, beta, gamma):
    return by_broadcast(x, conv, beta, gamma)


def without_stride(x, conv, beta, gamma):
    return F.conv2d(x, conv.weight * (beta @ gamma)[:, :, None, None], conv.bias, padding=1)


def offset(x, conv, beta, gamma):
    return F.conv2d(
        x, conv.weight * (1 + beta @ gamma)[:, :, None, None], conv.bias, conv.stride, conv.padding, conv.dilation
    )


def added(x, conv, beta, gamma):
    return F.conv2d(
        x, conv.weight + (beta @ gamma)[:, :, None, None], conv.bias, conv.stride, conv.padding, conv.dilation
    )


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def by_momentum(network, images):
    before = [norm.momentum for norm in norms_of(network)]
    for norm in norms_of(network):
        norm.momentum = 1.0
    network.train()
    network(images)
    network.eval()
    for norm, momentum in zip(norms_of(network), before, strict=True):
        norm.momentum = momentum


def by_cumulative_average(network, images):
    """Whoever starts to count anew may average over all batches; here there is one."""
    before = [norm.momentum for norm in norms_of(network)]
    for norm in norms_of(network):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        network(images)
    for norm, momentum in zip(norms_of(network), before, strict=True):
        norm.eval()
        norm.momentum = momentum


@torch.no_grad()
def by_hooks(network, images):
    """One norm after the other, each with the new statistics of those before it."""

    def measure(norm, inputs):
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3), unbiased=False))

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms_of(network)]
    network.eval()(images)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def one_pass(network, images):
    network.train()
    network(images)
    network.eval()


@torch.no_grad()
def leaves_training(network, images):
    by_momentum(network, images)
    network.train()


@torch.no_grad()
def leaves_momentum(network, images):
    for norm in norms_of(network):
        norm.momentum = 1.0
    network.train()(images)
    network.eval()


@torch.no_grad()
def in_eval_mode(network, images):
    network.eval()(images)


@torch.no_grad()
def resets_everything(network, images):
    for norm in norms_of(network):
        norm.reset_parameters()
    by_momentum(network, images)


@torch.no_grad()
def only_children(network, images):
    """A norm within a block is not a child of the network."""
    norms = [module for module in network.children() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    network(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def started(columns, transposed=False):
    """beta's other columns made by columns(m, count), gamma's other rows zero; or the other way round."""

    def start(m, n, rank):
        if transposed:
            gamma, beta = started(columns)(n, m, rank)
            return beta.T.contiguous(), gamma.T.contiguous()
        beta = torch.cat([torch.ones(m, 1), columns(m, rank - 1)], 1)
        gamma = torch.cat([torch.ones(1, n), torch.zeros(rank - 1, n)])
        return beta, gamma

    return start


def cancelling(m, n, rank):
    """Pairs of directions that take each other away, and single ones with zeros."""
    beta, gamma = torch.randn(m, rank), torch.zeros(rank, n)
    beta[:, 0], gamma[0] = 1, 1
    for i in range(1, rank - 1, 2):
        beta[:, i + 1] = beta[:, i]
        gamma[i] = torch.randn(n)
        gamma[i + 1] = -gamma[i]
    return beta, gamma


def all_ones(m, n, rank):
    return torch.ones(m, rank), torch.full((rank, n), 1 / rank)


def equal_columns(m, n, rank):
    return started(lambda m, count: torch.randn(m, 1).expand(m, count))(m, n, rank)


def zeros(m, n, rank):
    return started(torch.zeros)(m, n, rank)


def scaled_copies(m, n, rank):
    """Copies of the column of ones in other sizes move along with it."""
    return started(lambda m, count: torch.ones(m, count) * (2 + torch.arange(count)))(m, n, rank)


def not_one(m, n, rank):
    return torch.randn(m, rank), torch.randn(rank, n)


def frozen_for_good(network, images):
    for parameter in network.parameters():
        parameter.requires_grad = not parameter.requires_grad
    by_momentum(network, images)


def following(network, images):
    """Hooks that are never taken away."""

    def follow(norm, inputs):
        variance, mean = torch.var_mean(inputs[0].detach(), (0, 2, 3))
        norm.running_mean, norm.running_var = mean, variance

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(follow)
    network(images)


def forgetting(network, images):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = module.running_var = None


RIGHT = {
    "factorised": [by_broadcast, by_einsum, by_directions, lambda *given: by_broadcast(*given).double()],
    "refresh": [by_momentum, by_cumulative_average, by_hooks],
    "start": [
        started(torch.randn),
        started(torch.randn, transposed=True),
        started(lambda m, count: 1e-5 * torch.randn(m, count)),
        started(lambda m, count: torch.linalg.qr(torch.randn(m, m))[0][:, :count]),
        cancelling,
    ],
}
WRONG = {
    "factorised": [
        (lambda x, conv, beta, gamma: conv(x), "not scaled"),
        (added, "multiplies"),
        (offset, "starts at one"),
        (
            lambda x, conv, beta, gamma: conv._conv_forward(x, conv.weight * (beta @ gamma)[:, :, None, None], None),
            "bias",
        ),
        (in_place, "frozen"),
        (without_gradient, "reaches β and γ"),
        (lambda x, conv, beta, gamma: by_broadcast(x, conv, beta.detach(), gamma.detach()), "reaches β and γ"),
        (lambda x, conv, beta, gamma: by_broadcast(x, conv, beta.data, gamma), "reaches β. "),
        (lambda x, conv, beta, gamma: by_einsum(x, conv, beta, gamma.detach()), "reaches γ. "),
        (without_stride, "shape"),
    ],
    "refresh": [
        (frozen_for_good, "requires_grad"),
        (following, "changes the statistics again"),
        (forgetting, "are gone"),
        (one_pass, "of the way"),
        (leaves_training, "training mode"),
        (leaves_momentum, "momentum"),
        (in_eval_mode, "not moved"),
        (resets_everything, "has changed"),
        (only_children, "number 2"),
    ],
    "start": [
        (all_ones, "copies"),
        (equal_columns, "copies"),
        (zeros, "no gradient"),
        (scaled_copies, "copies"),
        (not_one, "at the start"),
    ],
}
