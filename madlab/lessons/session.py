"""How a notebook begins and shows text: set-up, tier, small parts of domains, Markdown with values just computed."""

import atexit
import gc
import os
import platform
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import madlab
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError

TIERS = ("quick", "full")


def setup(seed: int = 0, gpu: bool = True) -> torch.device:
    """Begin a notebook: seed PyTorch, set the figures' style, print versions, device and tier; returns the device.

    In Colab without a GPU it says which menu has one. gpu: whether the notebook has work for one.
    """

    from madlab.device import default_device
    from madlab.figures import use_style

    use_style()
    gc.freeze()  # looking through PyTorch's 400,000 objects takes half a second, often while a slider is moving
    atexit.register(gc.unfreeze)  # otherwise PyTorch's compiler takes them for leaks, and says so at exit
    torch.manual_seed(seed)
    device = default_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"madlab {madlab.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}")
    if not gpu:
        print(f"Device: {device.type} ({name}). This notebook is no faster on a GPU.")
        return device
    print(f"Device: {device.type} ({name}). Tier: {tier()}.")
    if in_colab() and device.type == "cpu":
        print(
            "Colab lends you a GPU: menu Runtime > Change runtime type > T4 GPU > Save. Then run this notebook again."
        )
        print("Without one everything still works, on less data.")
    return device


def keep(folder: Path | str) -> Path:
    """Where to put runs that are to outlive this session: the folder itself, in Colab one of that name on your Drive.

    Colab asks for leave to mount the Drive. A session that is lost there can then go on where it was.
    """
    if not in_colab():
        return Path(folder)
    import_module("google.colab.drive").mount("/content/drive")
    return Path("/content/drive/MyDrive/madlab") / folder


def tier() -> str:
    """The tier: "quick" (two CPU cores, pocket data) or "full" (a GPU, and whatever data is there).

    The environment variable MADLAB_TIER overrides what the hardware suggests.
    """
    wanted = os.environ.get("MADLAB_TIER", "")
    if wanted:
        if wanted not in TIERS:
            raise MadlabError(f"MADLAB_TIER is {wanted!r}: set it to quick or full, or remove it.")
        return wanted
    return "full" if torch.cuda.is_available() else "quick"


def in_colab() -> bool:
    """Whether this notebook runs in Google Colab."""
    return "google.colab" in sys.modules


def say(text: str) -> None:
    """Show Markdown: sentences with values that the notebook has just computed."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def few(
    domain: Domain, train: int = 20, val: int = 8, test: int = 15, classes: int = 10, size: int | None = 24
) -> Domain:
    """A domain of the first `classes` classes, with the first `train`, `val` and `test` images of each class.

    Its normalisation is measured anew. size: the side of the images in pixels; None leaves it as it is. Notebook 04
    writes this in its own cells.
    """
    counts = {"train": train, "val": val, "test": test}
    parts: dict[str, Any] = {split: _first(getattr(domain, split), n, classes) for split, n in counts.items()}
    part = replace(domain, class_names=domain.class_names[:classes], normalization={}, **parts)
    return part if size is None else replace(part.shrunk(size), normalization={})


def _first(split: Split, count: int, classes: int) -> Split:
    keep = torch.cat([(split.labels == label).nonzero().flatten()[:count] for label in range(classes)])
    return Split(split.images[keep], split.labels[keep])
