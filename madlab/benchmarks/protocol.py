"""What a benchmark fixes, as plain data: its domains in their official order, the counts, and how pictures are cut."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from madlab.benchmarks.fetch import Archive
from madlab.errors import MadlabError


@dataclass(frozen=True)
class DomainProtocol:
    """One domain as its benchmark defines it.

    train, val, test: official numbers of images; val is 0 where the benchmark has none and we hold out a part of train.
    normalization: {"mean": [r, g, b], "std": [r, g, b]}, pixels scaled to 0..1; empty: measured on the training images.
    flip: whether a mirrored image is still of its class.
    size: pixels of the stored squares; crop: pixels of the window that a network sees.
    squash: the whole picture is pressed into the square; otherwise the short side is scaled and the centre cut out.
    folder: the folder that holds it in its archive. index: its number in the Decathlon's ids.
    """

    name: str
    classes: int
    train: int
    val: int
    test: int
    normalization: dict[str, list[float]] = field(default_factory=dict)
    flip: bool = True
    squash: bool = False
    size: int = 72
    crop: int = 64
    folder: str = ""
    index: int = 0

    @property
    def packed_bytes(self) -> int:
        return (self.train + self.val + self.test) * self.size**2 * 3


@dataclass(frozen=True)
class Protocol:
    """A benchmark: `domains` in official order, and the archives they come from, by a short name of ours."""

    name: str
    domains: tuple[DomainProtocol, ...]
    archives: dict[str, Archive] = field(default_factory=dict)

    @property
    def most_files(self) -> int:
        """More files than an archive of the benchmark's images has."""
        return 10_000 + 2 * sum(domain.train + domain.val + domain.test for domain in self.domains)

    def domain(self, name: str) -> DomainProtocol:
        for domain in self.domains:
            if domain.name == name:
                return domain
        known = ", ".join(domain.name for domain in self.domains)
        raise MadlabError(f"The {self.name} benchmark has no domain {name!r}: choose from {known}.")

    def choose(self, names: Iterable[str]) -> list[DomainProtocol]:
        """The named domains in official order; an unknown name is a MadlabError that lists the known ones."""
        wanted = {self.domain(name).name for name in names}
        return [domain for domain in self.domains if domain.name in wanted]
