"""Trained domains that ship with madlab, for a first look before anything is trained."""

import io
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from madlab.benchmarks.fetch import cache_folder
from madlab.errors import MadlabError
from madlab.files.plain import write_bytes

DOMAINS = ("signs", "glyphs", "digits")
METHODS = ("frozen", "batchnorm", "mad")
ADAPTERS = Path(__file__).parents[1] / "weights" / "adapters.zip"


def shipped(domain: str, method: str) -> Path:
    """The file of a trained pocket domain for `net.load_domain`, on the base network "pocket-resnet26".

    It is taken out of the archive that ships, into madlab's cache. Raises MadlabError for a domain or a method that
    does not ship.
    """
    if domain not in DOMAINS or method not in METHODS:
        raise MadlabError(
            f"No {method!r} for {domain!r} ships with madlab: there are {', '.join(METHODS)} for {', '.join(DOMAINS)}."
        )
    name = f"{domain}-{method}.safetensors"
    with ZipFile(ADAPTERS) as archive:
        data = archive.read(name)
    file = cache_folder() / "adapters" / name
    if not file.exists() or file.read_bytes() != data:
        write_bytes(file, data)
    return file


def pack(files: dict[str, bytes]) -> None:
    """Write the archive that ships, without the day on which it was made, so that the same domains make the same."""
    data = io.BytesIO()
    with ZipFile(data, "w") as archive:
        for name in sorted(files):
            archive.writestr(ZipInfo(name), files[name])
    write_bytes(ADAPTERS, data.getvalue())
