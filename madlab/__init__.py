"""madlab: one frozen convolutional network, many visual domains, with Modulation Adapters (arXiv 2307.08528).

    base = madlab.load_base("pocket-resnet26")
    net = madlab.MultiDomainNet(base)
    net.add_domain("signs", num_classes=43, method="mad")

Names are imported when they are first used, so that `import madlab` and `madlab --help` take no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from madlab.adapters import METHODS as METHODS
    from madlab.backbones import densenet121 as densenet121
    from madlab.backbones import load_base as load_base
    from madlab.backbones import resnet26 as resnet26
    from madlab.backbones import resnet50 as resnet50
    from madlab.backbones import save_base as save_base
    from madlab.benchmarks import load_domain as load_domain
    from madlab.benchmarks.dividing import divide as divide
    from madlab.benchmarks.domain import Domain as Domain
    from madlab.benchmarks.score import decathlon_score as decathlon_score
    from madlab.errors import MadlabError as MadlabError
    from madlab.network import MultiDomainNet as MultiDomainNet
    from madlab.runs.evaluate import evaluate as evaluate
    from madlab.runs.loaded import load_run as load_run
    from madlab.runs.train import train as train

_ROOMS = {
    "METHODS": "adapters",
    "densenet121": "backbones",
    "load_base": "backbones",
    "resnet26": "backbones",
    "resnet50": "backbones",
    "save_base": "backbones",
    "load_domain": "benchmarks",
    "divide": "benchmarks.dividing",
    "Domain": "benchmarks.domain",
    "decathlon_score": "benchmarks.score",
    "MadlabError": "errors",
    "MultiDomainNet": "network",
    "evaluate": "runs.evaluate",
    "load_run": "runs.loaded",
    "train": "runs.train",
}
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("madlab")
        except metadata.PackageNotFoundError:  # it runs from a checkout, and was never installed
            return "unknown"
    if name not in _ROOMS:
        raise AttributeError(f"module 'madlab' has no attribute {name!r}")
    return getattr(import_module(f"madlab.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
