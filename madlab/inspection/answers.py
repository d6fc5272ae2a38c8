"""What a run answers on a split of its domain, image by image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import crop_and_flip
from madlab.errors import MadlabError
from madlab.runs.loaded import LoadedRun

JUDGED = ("test", "val")


@dataclass(frozen=True)
class Answers:
    """images: uint8 (N, S, S, 3), as the network saw them. labels: int (N,). probabilities: float (N, classes)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    class_names: list[str]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, (N,)."""
        return self.probabilities.argmax(1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether that is the image's class, (N,)."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Its probability, (N,)."""
        return self.probabilities.max(1)

    def worst_mistakes(self, most: int) -> NDArray[np.int64]:
        """Places of up to `most` wrong answers, the surest first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:most]

    def least_certain(self, most: int) -> NDArray[np.int64]:
        """Places of up to `most` right answers, the least certain first."""
        right = np.flatnonzero(self.right)
        return right[np.argsort(self.confidence[right], kind="stable")][:most]


def check_split(split: str) -> None:
    """Raise MadlabError unless a run can be judged by this split."""
    if split not in JUDGED:
        raise MadlabError(f"There are no answers to look at in {split!r:.60}: choose one of {', '.join(JUDGED)}.")


def answers_of(run: LoadedRun, domain: Domain, split: str = "test") -> Answers:
    """A run's answers on "test" or "val" images of its domain, whose classes are in the run's order.

    Raises MadlabError for another split.
    """
    check_split(split)
    part, crop = getattr(domain, split), run.crop(domain.size)
    here = part.to(run.net.view(run.domain).like.device)
    measured = run.measure(here, crop)
    every = part.labels.new_tensor(range(len(part)))
    seen = crop_and_flip(part.images, every, crop, False, None).permute(0, 2, 3, 1)
    return Answers(seen.cpu().numpy(), part.labels.cpu().numpy(), measured.probabilities.cpu().numpy(), run.class_names)
