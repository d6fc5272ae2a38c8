"""What a training takes: images per second, and memory."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Cost:
    """Counts what passes through the training since it began or was resumed; device: the one that trains."""

    def __init__(self, device: torch.device):
        self.device = device
        self.images, self.seconds = 0, 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextmanager
    def of(self, images: int) -> Iterator[None]:
        """Within this, so many images are trained on."""
        began = time.perf_counter()
        yield
        self.images, self.seconds = self.images + images, self.seconds + time.perf_counter() - began

    def told(self) -> dict[str, float]:
        """As `Result.cost` has it; without images, as in a run that was stopped just before its end, no speed."""
        speed = {"images_per_second": round(self.images / self.seconds, 1)} if self.images else {}
        peak = peak_bytes(self.device)
        return speed | ({} if peak is None else {"peak_bytes": peak})


def peak_bytes(device: torch.device) -> int | None:
    """The most memory in bytes: on a GPU, of tensors since a `Cost` was made; else of the process since it started.

    None where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
