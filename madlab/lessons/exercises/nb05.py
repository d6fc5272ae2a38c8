"""Exercises and quiz of notebook 05, "Factorised MAD and the rank I"."""

import random
from collections.abc import Callable
from typing import Any

import torch

from madlab.lessons.checks import Wrong, in_format_of, present, same_tensor
from madlab.lessons.quizzes import Question


def factorised(answer: Callable[[torch.Tensor, torch.nn.Conv2d, torch.Tensor, torch.Tensor], Any]) -> str:
    """factorised(x, conv, beta, gamma) -> conv's output with the slices of its filters scaled by beta @ gamma."""
    cases: list[tuple[int, dict[str, Any]]] = [(3, {}), (1, {"bias": False}), (3, {"stride": 2, "dilation": 2})]
    for kernel, options in cases:
        inputs, outputs, rank = random.randint(2, 5), random.randint(6, 9), random.randint(2, 4)
        conv = torch.nn.Conv2d(inputs, outputs, kernel, padding=1, **options).requires_grad_(False)
        x = torch.randn(2, inputs, 9, 8)
        beta, gamma = torch.randn(outputs, rank, requires_grad=True), torch.randn(rank, inputs, requires_grad=True)
        expected = _by_slices(x, conv, beta.detach(), gamma.detach())
        before = conv.weight.detach().clone()
        got = in_format_of(expected, answer(x.clone(), conv, beta, gamma))
        if not torch.equal(conv.weight, before):
            raise Wrong("conv's own weight was changed. It is frozen and shared: compute new filters from it.")
        if isinstance(got, torch.Tensor) and got.shape == expected.shape:
            _name_the_layer(got.detach(), x, conv, beta.detach(), gamma.detach())
        same_tensor(got, expected, f"the output of a {kernel} × {kernel} layer", tolerance=1e-4)
        factors = (beta, gamma)
        reached = torch.autograd.grad(got.sum(), factors, allow_unused=True) if got.requires_grad else (None, None)
        if cut := [name for name, gradient in zip("βγ", reached, strict=True) if gradient is None]:
            raise Wrong(f"No gradient reaches {' and '.join(cut)}. Do not detach them, and do not use torch.no_grad.")
    return "M · N numbers that act, I · (M + N) numbers that are learned."


def _by_slices(x: torch.Tensor, conv: torch.nn.Conv2d, beta: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """The same, slice by slice: each input channel's map, convolved, scaled and added."""
    options: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    outputs = []
    for m, filters in enumerate(conv.weight.detach()):
        total = torch.zeros(()) if conv.bias is None else conv.bias.detach()[m]
        for n, kernel in enumerate(filters):
            scale = sum(float(beta[m, i]) * float(gamma[i, n]) for i in range(len(gamma)))
            total = total + scale * torch.nn.functional.conv2d(x[:, n : n + 1], kernel[None, None], **options)
        outputs.append(total)
    return torch.cat(outputs, 1)


def _name_the_layer(got: torch.Tensor, x: torch.Tensor, conv: Any, beta: torch.Tensor, gamma: torch.Tensor) -> None:
    """Raise Wrong if an output of the right shape comes from one of the usual mistakes."""
    with torch.no_grad():
        weight, alpha = conv.weight, (beta @ gamma)[:, :, None, None]
        others = {
            "The slices are not scaled at all: multiply conv's weight by α.": (weight, conv.bias),
            "You added α to the weights. MAD multiplies.": (weight + alpha, conv.bias),
            "You scaled by 1 + βγ. Here βγ is α itself, and starts at one.": (weight * (1 + alpha), conv.bias),
            "The bias is missing: pass on conv.bias.": (weight * alpha, None),
        }
        for message, (filters, bias) in others.items():
            output = torch.nn.functional.conv2d(x, filters, bias, conv.stride, conv.padding, conv.dilation)
            if torch.allclose(got, output, atol=1e-4) and not (bias is None and conv.bias is None):
                raise Wrong(message)


def refresh(answer: Callable[[torch.nn.Module, torch.Tensor], Any]) -> str:
    """refresh(network, images): the running statistics of every BatchNorm2d are those of this one batch."""
    for _ in range(3):
        width, wider, count = random.randint(3, 5), random.randint(6, 8), random.randint(40, 60)
        first, second = torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.Conv2d(width, wider, 3, padding=1)
        norms = [torch.nn.BatchNorm2d(width), torch.nn.BatchNorm2d(wider, momentum=0.05)]
        for norm in norms:
            _used(norm)
        inner = torch.nn.Sequential(second, norms[1])  # a block within a network
        network = torch.nn.Sequential(first, norms[0], torch.nn.ReLU(), inner)
        network.eval().requires_grad_(random.random() < 0.5)
        images = 2 * torch.randn(count, 3, 6, 6) + torch.randn(1, 3, 1, 1)
        statistics = _measured(images, first, norms[0], second)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        momenta, learning = [norm.momentum for norm in norms], [p.requires_grad for p in network.parameters()]
        answer(network, images.clone())
        for name, value in network.state_dict().items():
            measured = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
            if not measured and not torch.equal(value, before[name]):
                raise Wrong(f"{name} has changed. Only running_mean and running_var may.")
        _compare_statistics(norms, statistics, before)
        if network.training or any(module.training for module in network.modules()):
            raise Wrong("The network is still in training mode: the next batch would change the statistics again.")
        if [parameter.requires_grad for parameter in network.parameters()] != learning:
            raise Wrong("Some `requires_grad` has changed for good. Only the statistics may change.")
        kept = [norm.get_buffer("running_mean").clone() for norm in norms]
        network(torch.randn_like(images))
        if any(not torch.equal(norm.get_buffer("running_mean"), mean) for norm, mean in zip(norms, kept, strict=True)):
            raise Wrong("The next batch changes the statistics again: take away what follows it, as a hook does.")
        if [norm.momentum for norm in norms] != momenta:
            raise Wrong("The momentum has changed for good: later training would average in another way. Put it back.")
    return "No label and no gradient: whoever cuts an adapter can do this before measuring what the cut has cost."


def _used(norm: torch.nn.BatchNorm2d) -> None:
    """Give a norm the numbers of one that has been trained on something else."""
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        assert tensor is not None
        tensor.copy_(torch.rand(len(tensor)) + 3)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.fill_(50)


@torch.no_grad()
def _measured(
    images: torch.Tensor, first: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d, second: torch.nn.Conv2d
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mean and variance, channel by channel, in front of both norms."""
    x = first(images)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale = norm.weight / (variance + norm.eps).sqrt()
    y = second(((x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).relu())
    return [(mean, variance), (y.mean((0, 2, 3)), y.var((0, 2, 3)))]


def _compare_statistics(
    norms: list[torch.nn.BatchNorm2d],
    statistics: list[tuple[torch.Tensor, torch.Tensor]],
    before: dict[str, torch.Tensor],
) -> None:
    old = [(before["1.running_mean"], before["1.running_var"]), (before["3.1.running_mean"], before["3.1.running_var"])]
    for place, (norm, (mean, variance), (old_mean, _)) in enumerate(zip(norms, statistics, old, strict=True)):
        got_mean, got_variance = norm.running_mean, norm.running_var
        where = f"of BatchNorm number {place + 1}"
        if got_mean is None or got_variance is None:
            raise Wrong(f"The running statistics {where} are gone: measure them, and leave them there.")
        if torch.equal(got_mean, old_mean):
            raise Wrong(f"The running mean {where} has not moved. Is every BatchNorm2d found, and in training mode?")
        moved = (got_mean - old_mean).norm() / (mean - old_mean).norm()
        if moved < 0.9:
            raise Wrong(
                f"The running mean {where} went {100 * float(moved):.0f} % of the way to that of the batch: "
                "`momentum` decides how much of a batch the average takes."
            )
        # Whoever measures one norm after the other uses the variance with n − 1 in front of the second.
        spread = variance.sqrt()
        if ((got_mean - mean).abs() > 0.02 * spread).any():
            raise Wrong(f"The running mean {where} is not that of the batch.")
        if ((got_variance - variance).abs() > 0.02 * variance).any():
            raise Wrong(f"The running variance {where} is not that of the batch.")


def _factors(got: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The β and γ that an answer returned; raises Wrong if it returned anything else."""
    present(got, "the pair of β and γ")
    is_pair = isinstance(got, tuple | list) and len(got) == 2
    if not is_pair or not all(isinstance(factor, torch.Tensor) for factor in got):
        raise Wrong("Return two tensors: `return beta, gamma`.")
    beta, gamma = (factor.detach() for factor in got)
    return beta, gamma


def start(answer: Callable[[int, int, int], Any]) -> str:
    """start(M, N, rank) -> beta, gamma: their product is exactly one, and a gradient step uses all directions."""
    for m, n, rank in ((7, 5, 2), (6, 9, 4), (8, 8, 5)):
        got = answer(m, n, rank)
        beta, gamma = (factor.double() for factor in _factors(got))
        if tuple(beta.shape) != (m, rank) or tuple(gamma.shape) != (rank, n):
            raise Wrong(
                f"β should be {(m, rank)} and γ {(rank, n)}; they are {tuple(beta.shape)} and {tuple(gamma.shape)}."
            )
        same_tensor(beta @ gamma, torch.ones(m, n, dtype=torch.float64), "βγ at the start", tolerance=1e-5)
        pull = torch.randn(m, n, dtype=torch.float64)  # a gradient of alpha
        to_beta, to_gamma = pull @ gamma.T, beta.T @ pull
        dead = [i for i in range(rank) if not (to_beta[:, i].any() or to_gamma[i].any())]
        if dead:
            raise Wrong(
                "Directions that are zero in both β and γ get no gradient at all: one of the two must not be zero."
            )
        # Whether the directions differ must not depend on how small they are: each is compared at a length of one.
        moved = torch.stack([torch.cat([_unit(to_beta[:, i]), _unit(to_gamma[i])]) for i in range(rank)])
        if int((torch.linalg.svdvals(moved) > 1e-4).sum()) < rank:
            raise Wrong(
                f"With this start {rank} directions do not get {rank} different gradients: some are copies of others, "
                "and will stay so."
            )
    return "It starts at the base network, and from the first step every direction goes its own way."


def _unit(vector: torch.Tensor) -> torch.Tensor:
    """The vector at a length of one; one of zeros stays as it is."""
    length = vector.norm()
    return vector / length if length > 0 else vector


EXERCISES = {"factorised": factorised, "refresh": refresh, "start": start}

QUIZ = (
    Question(
        "β = 1 and γ = 1/I start at exactly one. Why is this a bad start for I = 8?",
        {
            "The first gradient is zero, so that nothing ever moves": (
                "It is not: β and γ both move. Ask how the eight directions differ."
            ),
            "All eight directions move alike, so α stays at rank 1": (
                "Equal columns of β and equal rows of γ get equal gradients. One direction would do the same for less."
            ),
            "The product is not exactly one because of rounding": (
                "A product that is off by one part in ten million would not matter. Symmetry does."
            ),
        },
        right="All eight directions move alike, so α stays at rank 1",
    ),
    Question(
        "Frozen features have 30 %, BatchNorm and head alone 60 %, rank 4 has 64 % and full α 68 %. "
        "Which share of α's gain does rank 4 bring?",
        {
            "94 %, because 64 is 94 % of 68": "An accuracy is no gain: even frozen features would “bring” 44 % so.",
            "89 %, that is 34 of 38 points": (
                "That credits α with the 30 points that BatchNorm and head reach without it. They are the floor."
            ),
            "50 %, that is 4 of 8 points": "Above the floor there are 8 points to gain, and rank 4 gains 4 of them.",
        },
        right="50 %, that is 4 of 8 points",
    ),
    Question(
        "Full α has 48 %. Cut to rank 1 it has 12 %, after BatchNorm's statistics were measured anew 37 %. "
        "What did the lost directions cost?",
        {
            "36 points, from 48 % down to 12 %": "Most of these come back: the statistics were stale.",
            "25 points, from 37 % down to 12 %": "These are what stale statistics cost, and measuring anew repairs.",
            "11 points, from 48 % down to 37 %": "What is still missing with statistics that fit is due to the cut.",
            "Nothing, because a cut needs no training": "It needs none, and still 11 points do not come back.",
        },
        right="11 points, from 48 % down to 37 %",
    ),
)
