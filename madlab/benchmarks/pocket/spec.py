"""What a pocket domain is made of: its classes, how many images of each, and a function that draws one."""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

Pixels = np.ndarray
"""One finished image, uint8 (36, 36, 3), RGB."""


@dataclass(frozen=True)
class PocketSpec:
    """One pocket domain before it is drawn.

    stands_for: the benchmark's domain it stands for, spelled as there. counts: images of each class in train, val and
    test. draw: (random generator, label) -> uint8 (36, 36, 3). flip: whether a mirrored image is still of its class.
    from_scans: whether `draw` takes the image's number as well, because it shows the real scan of that number.
    """

    name: str
    stands_for: str
    description: str
    class_names: tuple[str, ...]
    counts: tuple[int, int, int]
    draw: Callable[..., Pixels]
    flip: bool = True
    from_scans: bool = False

    def image(self, label: int, number: int) -> Pixels:
        """Image `number` of class `label`; numbers run on through train, val and test, so that splits never meet.

        Its random numbers depend on nothing but the domain, the class and the number.
        """
        rng = np.random.default_rng([crc32(self.name.encode()), label, number])
        return self.draw(rng, label, number) if self.from_scans else self.draw(rng, label)
