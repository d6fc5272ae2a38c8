"""Trained domains that ship with madlab, for a first look before anything is trained."""

from pathlib import Path

from madlab.errors import MadlabError

DOMAINS = ("signs", "glyphs", "digits")
METHODS = ("frozen", "batchnorm", "mad")
ADAPTERS = Path(__file__).parents[1] / "weights" / "adapters"


def shipped(domain: str, method: str) -> Path:
    """The file of a trained pocket domain for `net.load_domain`, on the base network "pocket-resnet26".

    Raises MadlabError for a domain or a method that does not ship.
    """
    if domain not in DOMAINS or method not in METHODS:
        raise MadlabError(
            f"No {method!r} for {domain!r} ships with madlab: there are {', '.join(METHODS)} for {', '.join(DOMAINS)}."
        )
    return ADAPTERS / f"{domain}-{method}.safetensors"
