"""A base network never changes: its fingerprint, and a guard that notices if it was changed after all."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from madlab.errors import MadlabError


def fingerprint(base: nn.Module) -> str:
    """sha256 over the names and values of a network's parameters and buffers, in hexadecimal.

    It sees what `state_dict` sees, and the buffers that are not saved. Device and memory format do not count. On the
    meta device, where tensors have no values, only their names count.
    """
    digest = hashlib.sha256()
    for name, value in sorted((dict(base.named_buffers()) | base.state_dict()).items()):
        digest.update(name.encode())
        if not isinstance(value, Tensor):  # the extra state of a module may be anything
            digest.update(repr(value).encode())
        elif not value.is_meta:
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Guard:
    """Remembers what a base network was when its first domain was added.

    base: the network, frozen. sha256: its fingerprint.
    """

    def __init__(self, base: nn.Module):
        self.base = base
        self.sha256 = fingerprint(base)
        self.count_writes()

    def count_writes(self) -> None:
        """Accept everything that has been written to the base's tensors so far."""
        self.tensors = [t for t in (*self.base.parameters(), *self.base.buffers()) if not t.is_inference()]
        self.writes = self._count()

    def was_written_to(self) -> bool:
        """Whether anything was written to the base's tensors, or their memory is another: PyTorch counts the writes,
        but for those through `.data` and those of batch norm to its statistics."""
        return self._count() != self.writes

    def check_writes(self) -> None:
        """The check for every forward, which costs microseconds: compare values only if something was written."""
        if self.was_written_to():
            self.check_values()
            self.count_writes()

    def check_values(self) -> None:
        """The complete check: raises MadlabError if any value of the base differs from what it was."""
        if fingerprint(self.base) != self.sha256:
            raise MadlabError(
                "The base network was changed after its first domain was added, and all its domains with it: undo the "
                "change, or make a new MultiDomainNet of the changed base and train its domains anew."
            )

    def _count(self) -> list[tuple[int, int]]:
        return [(tensor._version, tensor.data_ptr()) for tensor in self.tensors]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a copy, the tensors are new ones, and PyTorch counts their writes from zero."""
        self.__dict__ |= state
        self.count_writes()
