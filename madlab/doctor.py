"""What is installed here, and does it work: `madlab doctor`."""

import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import madlab

PACKAGES = ("torch", "torchvision", "jupyterlab", "ipywidgets", "matplotlib", "nbval", "ray", "peft", "timm")


def examine() -> Iterator[tuple[str, str]]:
    """Yield (what, finding) line by line; the last one trains a tiny network for one step.

    A training step that fails raises: there is nothing useful to say that its own message does not say better.
    """
    yield "madlab", madlab.__version__
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
    import torch

    from madlab.backbones import WEIGHTS, resnet26
    from madlab.benchmarks.fetch import cache_folder
    from madlab.device import autocast, default_device
    from madlab.network import MultiDomainNet

    device = default_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    yield "device", f"{device.type}, {name}"
    yield "data folder", str(cache_folder())
    yield "shipped weights", ", ".join(sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))) or "none"
    began = time.time()
    net = MultiDomainNet(resnet26(num_classes=4, width=8).to(device)).train()
    net.add_domain("tiny", num_classes=3, method="mad")
    images = torch.rand(4, 3, 32, 32, device=device)
    optimiser = torch.optim.SGD(net.trainable_parameters("tiny"), lr=0.1)
    with autocast(device):
        loss = net(images, domain="tiny").square().mean()
    loss.backward()
    optimiser.step()
    net.to("cpu")
    yield "training step", f"works ({1000 * (time.time() - began):.0f} ms, the first one)"
