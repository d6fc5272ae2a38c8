"""Exercises and quiz of notebook 03, "A modulated network"."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from madlab.lessons.checks import Wrong, present, same_tensor
from madlab.lessons.quizzes import Question

Kind = TypeVar("Kind", bound=nn.Module)


class _Small(nn.Module):
    """A small network with all that a domain owns or shares: two convolutions (one nested), BatchNorm, a head."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        last = nn.BatchNorm2d(width + 2)
        self.block = nn.Sequential(nn.Conv2d(width, width + 2, 1, bias=False), last)
        self.fc = nn.Linear(width + 2, classes)
        for norm in (self.bn, last):  # statistics and gains that are not those of a new layer
            nn.init.normal_(norm.get_buffer("running_mean"))
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(torch.relu(self.block(x)).mean((2, 3)))


def add_domain(answer: Callable[[nn.Module, int], Any]) -> str:
    """add_domain(base, num_classes) -> a network: the base's convolutions with alphas, its own BatchNorm and head."""
    for width in (3, 5):
        base = _Small(width, 4).requires_grad_(False).eval()
        before = {name: value.clone() for name, value in base.state_dict().items()}
        features = _features(base, x := torch.randn(4, 3, 6, 6))
        views = [answer(base, classes) for classes in (7, 2)]
        for view, classes in zip(views, (7, 2), strict=True):
            present(view, "the domain's network")
            if not isinstance(view, nn.Module):
                raise Wrong(f"The answer should be a network, not {type(view).__name__}.")
            _judge_parts(base, view, classes)
        if {id(p) for p in views[0].parameters() if p.requires_grad} & {id(p) for p in views[1].parameters()}:
            raise Wrong("Two domains share numbers that are trained: each call has to make its own.")
        now = base.state_dict()
        if now.keys() != before.keys() or any(not torch.equal(now[name], before[name]) for name in before):
            raise Wrong("The base has changed, but all domains share it. Change a copy.")
        if any(parameter.requires_grad for parameter in base.parameters()):
            raise Wrong("The base would be trained now: its gradients were switched on. Do that in the copy only.")
        if base.training:
            raise Wrong(
                "The base was left in training mode, where its BatchNorm follows each batch: leave it as it was."
            )
        same_tensor(_features(views[0].eval(), x), features, "what reaches the head of a new domain")
        _judge_alphas(base, views[0], x, features)
    return "One network, two domains: they share the filters, and nothing else."


def _features(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What reaches the last linear layer."""
    seen: list[torch.Tensor] = []
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach())):
        network(x)
    if not seen:
        raise Wrong(
            "The network's last nn.Linear is never used: put the new head in the place of the old one, view.fc."
        )
    return seen[-1]


def _judge_alphas(base: nn.Module, view: nn.Module, x: torch.Tensor, features: torch.Tensor) -> None:
    """Raise Wrong unless other alphas change what reaches the head as they should; the view keeps them."""
    elsewhere = {id(p) for m in view.modules() if isinstance(m, nn.BatchNorm2d | nn.Linear) for p in m.parameters()}
    alphas = [p for p in view.parameters() if p.requires_grad and id(p) not in elsewhere]
    expected = features
    while torch.allclose(expected, features):  # ReLU may hide a change, but not for long
        other = copy.deepcopy(base)
        for conv in (module for module in other.modules() if isinstance(module, nn.Conv2d)):
            slices = conv.weight.shape[:2]
            own = [p for p in alphas if p.numel() == slices.numel()]  # no two convolutions have as many slices
            if len(own) != 1:
                raise Wrong("Each convolution needs one α of its own, with a number for each slice.")
            with torch.no_grad():
                conv.weight *= own[0].normal_(1).reshape(*slices, 1, 1)
        expected = _features(other, x)
    got = _features(view, x)
    if torch.allclose(got, features):
        raise Wrong("α is there, but no layer uses it: with other numbers the features stay the same.")
    same_tensor(got, expected, "what reaches the head with other α")
    reached = torch.autograd.grad(view(x).square().sum(), alphas, allow_unused=True)
    if any(gradient is None for gradient in reached):
        raise Wrong("No gradient reaches α, so that it could never learn: no `detach`, and no `.data`.")


def _judge_parts(base: nn.Module, view: nn.Module, classes: int) -> None:
    """Raise Wrong unless the view shares and owns what it should."""

    def parts(network: nn.Module, kind: type[Kind]) -> list[Kind]:
        return [module for module in network.modules() if isinstance(module, kind)]

    if view is base:
        raise Wrong("This is the base itself. A domain needs a network of its own around the same convolutions.")
    if {id(conv) for conv in parts(view, nn.Conv2d)} != {id(conv) for conv in parts(base, nn.Conv2d)}:
        raise Wrong("The convolutions were copied. Put them into the memo of `copy.deepcopy`, so that they are shared.")
    if {id(norm) for norm in parts(view, nn.BatchNorm2d)} & {id(norm) for norm in parts(base, nn.BatchNorm2d)}:
        raise Wrong("The BatchNorm layers are the base's own. Training would change them for everybody.")

    def places(network: nn.Module) -> set[int]:
        return {t.data_ptr() for norm in parts(network, nn.BatchNorm2d) for t in (*norm.parameters(), *norm.buffers())}

    if places(view) & places(base):
        raise Wrong("A BatchNorm layer shares its numbers with the base's. Training would change them for everybody.")
    heads = parts(view, nn.Linear)
    if not heads or heads[-1].out_features != classes:
        raise Wrong(f"The head should have {classes} outputs, one for each class of this domain.")
    if any(conv.weight.requires_grad for conv in parts(view, nn.Conv2d)):
        raise Wrong("The filters would be trained. They are shared, so they stay frozen.")
    slices = sum(conv.weight.shape[0] * conv.weight.shape[1] for conv in parts(base, nn.Conv2d))
    norms = sum(2 * norm.num_features for norm in parts(base, nn.BatchNorm2d))
    head = sum(parameter.numel() for parameter in heads[-1].parameters())
    trained = sum(parameter.numel() for parameter in view.parameters() if parameter.requires_grad)
    reasons = {
        norms + head: "No α is there: put every convolution into a ModulatedConv2d.",
        slices + head: "The BatchNorm layers are frozen, as those of the base are: switch their gradients on.",
        slices + norms: "The head is frozen. It is new, and has to learn.",
        head: "Only the head would be trained: α and BatchNorm are missing.",
    }
    if trained != slices + norms + head:
        raise Wrong(
            reasons.get(trained, "")
            or f"{trained} numbers are trained instead of {slices} of α, {norms} of BatchNorm and {head} of the head."
        )


class _Doubled(nn.Module):
    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.conv(x)


def swap(answer: Callable[[nn.Module, Callable[[nn.Conv2d], nn.Module]], Any]) -> str:
    """swap(network, make) -> nothing; every convolution has been replaced by make(convolution), once, at all places."""
    for _ in range(2):
        width = int(torch.randint(2, 7, ()))
        twice = nn.Conv2d(width, width, 1)  # stands at two places, as in the heads of detectors
        inner = nn.Sequential(nn.Conv2d(width, width, 1), nn.Tanh(), nn.Linear(6, 6))
        deep = nn.Sequential(nn.ReLU(), inner, twice, nn.Tanh(), twice)
        network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), deep, nn.Tanh(), twice)
        convs, x = [m for m in network.modules() if isinstance(m, nn.Conv2d)], torch.randn(2, 3, 6, 6)
        want = _doubled(copy.deepcopy(network), x)
        made: list[nn.Module] = []

        def make(conv: nn.Conv2d, made: list[nn.Module] = made) -> nn.Module:
            if not isinstance(conv, nn.Conv2d):
                raise Wrong(f"`make` was given a {type(conv).__name__}. Only convolutions are to be swapped.")
            if conv in made:
                raise Wrong(
                    "`make` was given the same convolution twice. Either the walk met it again inside the new module, "
                    "or it stands at two places: then both need the one module that `make` returned first."
                )
            made.append(conv)
            return _Doubled(conv)

        got = answer(network, make)
        if got is ...:  # None is what it should return
            present(got, "the network")
        if not made:
            raise Wrong("`make` was never called: is the network walked at all?")
        if len(made) < 3:
            raise Wrong(f"Only {len(made)} of 3 convolutions were swapped. Some are inside a nested Sequential.")
        if [m for m in network.modules() if isinstance(m, nn.Conv2d)] != convs:
            raise Wrong("The network's own convolutions should still be in it, inside what `make` returned.")
        if isinstance(network[0], nn.Conv2d):
            raise Wrong("`make` was called, but its result was not put into the network.")
        if any(isinstance(place, nn.Conv2d) for place in (network[3], deep[2], deep[4])):
            raise Wrong(
                "A convolution that stands at several places was not swapped at all of them. `named_modules` and "
                "`named_children` name each module once; `named_modules(remove_duplicate=False)` and `_modules` do not."
            )
        same_tensor(network(x), want, "the output of the swapped network")
    return "All convolutions were swapped, nested ones too, each once and at all of its places."


@torch.no_grad()
def _doubled(network: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """What the network computes if every convolution gives twice its output; the network is used up."""
    for conv in {module for module in network.modules() if isinstance(module, nn.Conv2d)}:
        conv.register_forward_hook(lambda _, __, output: 2 * output)
    return network(x)


EXERCISES = {"add_domain": add_domain, "swap": swap}

QUIZ = (
    Question(
        "A convolution has 64 inputs and 64 outputs. What is the largest rank I at which the factorised α, with "
        "I · (M + N) numbers, is <i>cheaper</i> than the full one?",
        {
            "31": "31 · 128 = 3,968, and the full α has 4,096 numbers. Rank 32 costs exactly as much.",
            "32": "32 · 128 = 4,096 is exactly the size of the full α. It has to be cheaper.",
            "63": "Below min(M, N) the product has a lower rank, but 63 · 128 = 8,064 is no saving.",
            "64": "At the full rank the two factors cost twice as much as α itself.",
        },
        right="31",
    ),
    Question(
        "A grouped 3×3 convolution has 64 inputs, 64 outputs and 4 groups. How many numbers has its full α?",
        {
            "1,024": "Each filter sees only the 16 inputs of its group: 64 · 16.",
            "4,096": "That would be 64 · 64. In a grouped convolution a filter sees only the inputs of its group.",
            "9,216": "Those are all weights, 64 · 16 · 9. The nine of a slice share one number.",
            "256": "That is 16 · 16, the slices of one group. There are four groups.",
        },
        right="1,024",
    ),
    Question(
        "The paper says that I = 36 saves more than 60 %. Which convolutions did the authors adapt?",
        {
            "All 25: 36 is the largest rank that saves 60 % there": "That is the simplest reading, and 36 is "
            "the limit there. But several other choices of layers satisfy the sentence too.",
            "The sentence does not say": "All layers, all but the first, the last two stages, the last stage alone, "
            "the second convolution of each block: they all save more than 60 % at rank 36. A claim that many causes "
            "explain identifies none of them.",
            "Only the last stage, where it saves most": "It does save most there, 70.9 %, and “more than 60 %” would "
            "be true. But it is true elsewhere as well.",
        },
        right="The sentence does not say",
    ),
)
