"""Stand-in until the branch `heads` is merged: the head is the last nn.Linear, unless it is named."""

from torch import nn

from madlab.errors import MadlabError


def find_head(network: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """The name and module of a network's classifier head."""
    found = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    linears = [n for n, m in found.items() if isinstance(m, nn.Linear)]
    if name is None and not linears:
        raise MadlabError("The base network has no nn.Linear that could be its classifier head.")
    if name is not None and name not in found:
        raise MadlabError(f"The base network has no layer {name!r} that could be its classifier head.")
    name = name or linears[-1]
    return name, found[name]


def new_head(head: nn.Module, num_classes: int) -> nn.Module:
    """A head of the same kind for another number of classes."""
    weight = head.get_parameter("weight")
    options: dict = {"bias": head.bias is not None, "device": weight.device, "dtype": weight.dtype}
    kind = nn.Linear if isinstance(head, nn.Linear) else lambda n, m, **o: nn.Conv2d(n, m, 1, **o)
    return kind(features_of(head), num_classes, **options)


def classes_of(head: nn.Module) -> int:
    """The number of classes of a head."""
    return head.get_parameter("weight").shape[0]


def features_of(head: nn.Module) -> int:
    """The number of features of a head."""
    return head.get_parameter("weight").shape[1]
