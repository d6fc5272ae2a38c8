"""A base network never changes: its fingerprint, and a guard that notices if it was changed after all."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from madlab.errors import MadlabError

PIECES = 64
"""Large tensors of the base are cut into this many pieces; each forward looks at one of each tensor, or at more."""
SMALL = 1024
"""Words of memory up to which a tensor is not cut: each forward looks at the whole of it."""
PIXELS = 2**22
"""Numbers in the images of a forward that is long enough to look at the whole base.

A forward takes time in proportion to the base's weights and to the images, and a look at the base to its weights: so
the share that is looked at follows the images, and the look takes the same small share of any forward.
"""


def fingerprint(base: nn.Module) -> str:
    """sha256 over the names and values of a network's parameters and buffers, in hexadecimal.

    It sees what `state_dict` sees, and the buffers that are not saved. Device and memory format do not count. On the
    meta device, where tensors have no values, only their names count. The layers' strides or activations are not part
    of it: files written years ago must still name their base, whatever PyTorch calls its layers' attributes by then,
    and what a `forward` does between the layers could not be seen anyway; nor are the wrappers of torch.compile. Within
    a process `Guard` compares the attributes, too.
    """
    digest = hashlib.sha256()
    named = (dict(base.named_buffers()) | base.state_dict()).items()
    for name, value in sorted(((name.replace("_orig_mod.", ""), value) for name, value in named), key=itemgetter(0)):
        digest.update(name.encode())
        if not isinstance(value, Tensor):  # the extra state of a module may be anything
            digest.update(repr(value).encode())
        elif not value.is_meta:
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def structure(base: nn.Module) -> list[tuple[str, type, dict[str, Any]]]:
    """Name, type and settings (stride, eps ...) of each of a network's modules; settings only of PyTorch's own layers.

    What others keep in their attributes may be a counter, and is then no setting.
    """
    return [
        (name, type(module), _settings(module) if _is_layer_of_pytorch(module) else {})
        for name, module in base.named_modules()
    ]


def _is_layer_of_pytorch(module: nn.Module) -> bool:
    """Whether its attributes are settings. Of a container they are what people tell of a network, as its `crop`."""
    place = type(module).__module__
    return place.startswith("torch.nn.") and place != nn.Sequential.__module__ and type(module) is not nn.Module


def _settings(module: nn.Module) -> dict[str, Any]:
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return {key: value for key, value in public.items() if isinstance(value, bool | int | float | str | tuple | None)}


class Guard:
    """Remembers what a base network was when its first domain was added.

    base: the network, frozen. sha256: its fingerprint. moving: whether the whole MultiDomainNet is being moved.
    """

    moving = False

    def __init__(self, base: nn.Module):
        self.base = base
        self.sha256 = fingerprint(base)
        self.structure = structure(base)
        self.accept_writes()

    def accept_writes(self) -> None:
        """Take what the base's tensors hold now for what they should hold in a forward."""
        tensors = [*self.base.parameters(), *self.base.buffers()]
        self.tensors = [tensor for tensor in tensors if not tensor.is_inference()]
        self.writes = self._count()
        self.checksums = Checksums(tensors)

    def was_written_to(self) -> bool:
        """Whether anything was written to the base's tensors, or their memory is another: PyTorch counts the writes,
        but for those through `.data` and those of batch norm to its statistics."""
        return self._count() != self.writes

    def check_before_forward(self, images: Tensor) -> None:
        """The check for every forward: raises MadlabError as `check_values` does, but looks only where it must.

        It compares all values if PyTorch has counted a write. Against uncounted ones it looks at a piece of every
        tensor, another one each time: a tensor that was changed as a whole is noticed at once, a single number after
        PIECES forwards at most (on a GPU, which nobody waits for, some forwards later).
        """
        if self.was_written_to() or self.checksums.differ(images.numel() / PIXELS):
            self.check_values()
            self.accept_writes()

    def is_changed(self) -> bool:
        """Whether a value or a layer of the base differs from what it was."""
        return fingerprint(self.base) != self.sha256 or not self._is_built_as_before()

    def check_values(self) -> None:
        """The complete check: raises MadlabError if a value or a layer of the base differs from what it was."""
        if self.is_changed():
            raise MadlabError(
                "The base network was changed after its first domain was added, and all its domains with it: undo the "
                "change, or make a new MultiDomainNet of the changed base and train its domains anew. (Take a moving "
                "average of a domain's weights of its `own_state()` alone.)"
            )

    def _is_built_as_before(self) -> bool:
        """Whether the layers and their settings are what they were; what users hang on layers since is no setting."""
        now = structure(self.base)
        return [layer[:2] for layer in now] == [layer[:2] for layer in self.structure] and all(
            before.items() <= settings.items() for (*_, before), (*_, settings) in zip(self.structure, now, strict=True)
        )

    def _count(self) -> list[tuple[int, int]]:
        return [(tensor._version, tensor.data_ptr()) for tensor in self.tensors]

    def __getstate__(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("base", "sha256", "structure")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a copy, the tensors are new ones, and PyTorch counts their writes from zero."""
        self.__dict__ |= state
        self.accept_writes()


class Checksums:
    """What tensors hold, in PIECES + 1 numbers for each device (CPU or CUDA; tensors elsewhere are left out).

    A checksum is the sum, modulo 2**64, of all 32-bit words (16 or 8 bits, for shorter numbers), each times a random
    factor of its place: so an exchange of two words shows as well as a change of sign, and nothing is rounded.
    """

    def __init__(self, tensors: Iterable[Tensor]):
        with torch.inference_mode(False), torch.no_grad():
            words = [_words(tensor) for tensor in tensors if tensor.device.type in ("cpu", "cuda") and tensor.numel()]
            small, large = ([w for w in words if (len(w) <= SMALL) == which] for which in (True, False))
            parts = [[_part(each, number) for each in large] for number in range(PIECES)]
            together = [_by_device(small), *map(_by_device, parts)]
            self.pieces = [piece for pieces in together for piece in pieces]
            self.factors = _factors(self.pieces)
            self.expected = [int(self._sum(piece)) for piece in self.pieces]
        # On a GPU nothing is looked at each time: one checksum is under way at a time.
        self.each_time = [number for number in range(len(together[0])) if not self.pieces[number][0].is_cuda]
        self.in_turn = [number for number in range(len(self.pieces)) if number not in self.each_time]
        self.position = 0
        self.on_the_way: tuple[int, Tensor, torch.cuda.Event] | None = None

    @torch.no_grad()
    def differ(self, share: float) -> bool:
        """Look at the small tensors and at the next pieces, `share` of them and at least one; whether one differs."""
        if any(map(self._differs, self.each_time)):
            return True
        for _ in range(min(len(self.in_turn), max(1, int(share * len(self.in_turn))))):
            number = self.in_turn[self.position]
            on_gpu = self.pieces[number][0].is_cuda
            if on_gpu and not self._is_free():
                return False
            self.position = (self.position + 1) % len(self.in_turn)
            if self._differed(number) if on_gpu else self._differs(number):
                return True
        return False

    def _differs(self, number: int) -> bool:
        value = self._sum(self.pieces[number])
        # A FakeTensor, where only shapes are asked for, has no value.
        return type(value) is Tensor and int(value) != self.expected[number]

    def _is_free(self) -> bool:
        """Whether a GPU can be asked for a checksum without waiting for the one before."""
        if torch.cuda.is_current_stream_capturing():  # in which nothing may ask for what has arrived
            return False
        return self.on_the_way is None or self.on_the_way[2].query()

    def _differed(self, number: int) -> bool:
        """Ask a GPU for a checksum; whether the one before, which has arrived, differs."""
        before, self.on_the_way = self.on_the_way, (number, *self._send(self.pieces[number]))
        return before is not None and int(before[1]) != self.expected[before[0]]

    def _send(self, piece: list[Tensor]) -> tuple[Tensor, torch.cuda.Event]:
        """A checksum on its way from a GPU, and the event of its arrival."""
        with torch.cuda.device(piece[0].device):
            value = torch.empty((), dtype=torch.int64, device="cpu", pin_memory=True)
            value.copy_(self._sum(piece), non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        return value, arrived

    def _sum(self, piece: list[Tensor]) -> Tensor:
        words = torch.cat(piece)
        return (words * self.factors[words.device][: len(words)]).sum()


def _words(tensor: Tensor) -> Tensor:
    """The memory of a tensor as integers, not copied; with the gaps, should it have any between its elements."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * step for size, step in steps)
    kind = {1: torch.uint8, 2: torch.int16}.get(tensor.element_size(), torch.int32)
    return tensor.detach().as_strided((span,), (1,), tensor.storage_offset()).view(kind)


def _part(words: Tensor, number: int) -> Tensor:
    return words[len(words) * number // PIECES : len(words) * (number + 1) // PIECES]


def _by_device(words: Sequence[Tensor]) -> list[list[Tensor]]:
    return [[each for each in words if each.device == device] for device in dict.fromkeys(w.device for w in words)]


def _factors(pieces: list[list[Tensor]]) -> Mapping[torch.device, Tensor]:
    """For each device as many factors as its longest piece has words; the same in every process."""
    lengths = [(piece[0].device, sum(map(len, piece))) for piece in pieces]
    generator = torch.Generator().manual_seed(0)
    most = max((n for _, n in lengths), default=0)
    drawn = torch.randint(-(2**62), 2**62, (most,), generator=generator, device=generator.device) | 1
    return {device: drawn.to(device) for device, _ in lengths}
