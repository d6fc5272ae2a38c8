"""Where PyTorch computes: the device that is there, the one that was asked for, its numbers, and what runs on it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torchvision
from torch import nn

import madlab
from madlab.errors import MadlabError


def versions() -> dict[str, str]:
    """What computes here, in which version."""
    return {
        "madlab": madlab.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }


def default_device() -> torch.device:
    """The GPU if PyTorch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(device: torch.device | str | None) -> torch.device:
    """The device that was asked for, or the default one for None; MadlabError unless this machine has it."""
    if device is None:
        return default_device()
    counts = _device_counts()
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = None
    # PyTorch keeps an index in eight bits: "cuda:256" would be the first GPU.
    wrapped = isinstance(device, str) and str(chosen) != device
    if chosen is None or wrapped or not 0 <= (chosen.index or 0) < counts.get(chosen.type, 0):
        there = ", ".join(kind if count == 1 else f"{kind}:0 to {kind}:{count - 1}" for kind, count in counts.items())
        raise MadlabError(f"There is no device {str(device)!r:.60} here: choose one of {there}.")
    return chosen


def autocast(device: torch.device) -> torch.autocast:
    """bf16 (fp16 would need loss scaling) on a GPU that has it; a CPU gains nothing from it here.

    GPUs before Ampere, Colab's T4 among them, only emulate it, and cuDNN has no convolutions for that.
    """
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left; MPS and the CPU have no kind of their own for it."""
    told = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in told)
    )


@contextmanager
def no_modes(network: nn.Module) -> Iterator[None]:
    """With gradients, and without the caller's inference mode and autocast.

    What inference mode makes can never be trained. Autocast keeps what it made of a weight, and would go on using that
    after the weight has changed.
    """
    device = next((parameter.device.type for parameter in network.parameters()), "cpu")
    autocast_off = torch.autocast("cpu" if device == "meta" else device, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), autocast_off:
        yield


def _device_counts() -> dict[str, int]:
    """How many devices of each kind this machine has."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0  # a driver may count what it cannot run
    counts = {"cpu": 1, "cuda": gpus, "mps": int(torch.backends.mps.is_available())}
    return {kind: count for kind, count in counts.items() if count}
