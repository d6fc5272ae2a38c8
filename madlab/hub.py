"""Networks of torchvision and timm with their published weights, read so that no file can run code.

A file of torchvision's is checked against the sha256 in its name every time, also in the cache, and read with
`torch.load(weights_only=True)`; for timm's networks only safetensors are read.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from madlab.errors import MadlabError
from madlab.sizes import timm_size

ADAPTER = "adapter.safetensors"
"""A domain's file in a run folder, and in one that is shared."""
HUB = "hf://"


class NotHere(MadlabError):
    """Weights would have to be downloaded, but downloading was not allowed."""


_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def torchvision_network(model: str, version: str, download: bool = True) -> nn.Module:
    """A classification network of torchvision with the weights of that name, such as "DEFAULT" or "IMAGENET1K_V2".

    Normalisation and image size are those of the weights' own transforms. Raises MadlabError for weights that do not
    exist, cannot be downloaded, or are not what torchvision published; NotHere, without `download`, for weights that
    are not on this machine.
    """
    known = torchvision.models.get_model_weights(model)
    if version not in known.__members__:
        raise MadlabError(
            f"{model} has no weights {version!r} in torchvision: choose one of {', '.join(known.__members__)}."
        )
    weights = known[version]
    path = _fetched(weights.url, download)
    try:
        # torchvision builds some networks in another way for their weights, so it has to load the file itself.
        with _weights_only():
            network: Any = torchvision.models.get_model(model, weights=weights)
    except Exception as error:
        raise _spoilt(path, model, error) from error
    transforms = weights.transforms()
    network.normalization = {"mean": list(transforms.mean), "std": list(transforms.std)}
    network.resize, network.crop = transforms.resize_size[0], transforms.crop_size[0]
    return network


def timm_network(model: str, download: bool = True) -> nn.Module:
    """A network of timm with its weights from the Hugging Face hub; normalisation and image size as timm says.

    Raises MadlabError where timm is missing, does not know the network, or has no safetensors of it; NotHere,
    without `download`, for weights that are not on this machine.
    """
    try:
        import timm
        from timm.models import get_pretrained_cfg
    except ImportError:
        raise MadlabError("timm is not installed: pip install timm, or use another base network.") from None
    if not timm.is_model(model):
        raise MadlabError(f"timm has no network {model!r}: list them with timm.list_models(pretrained=True).")
    try:
        config = get_pretrained_cfg(model)
    except RuntimeError as error:
        raise MadlabError(f"timm has no such weights ({error}): list them with timm.list_pretrained().") from error
    if config is None or not config.hf_hub_id:
        raise MadlabError(f"timm has no weights of {model!r} on the Hugging Face hub: choose another network.")
    own = config.hf_hub_filename or ""
    path = _fetched_from_hub(config.hf_hub_id, own if own.endswith(".safetensors") else "model.safetensors", download)
    try:
        with _weights_only():
            overlay = {"file": str(path), "custom_load": False}
            network: Any = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        raise _spoilt(path, model, error) from error
    size = timm_size(network.pretrained_cfg)
    network.normalization = {key: list(network.pretrained_cfg[key]) for key in ("mean", "std")}
    network.resize, network.crop = size.resize, size.crop
    return network


def domain_file(place: Path | str) -> Path:
    """The file of a domain: a file as it is, that of a run or shared folder, or that of hf://OWNER/NAME[@REVISION].

    From the Hugging Face hub one file is fetched, the adapter, and kept in its library's cache; whatever else lies there
    stays there. Raises MadlabError for an address that is none, and for what cannot be had.
    """
    if isinstance(place, str) and place.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place.removeprefix(HUB)):
            raise MadlabError(
                f"{place!r:.120} is no address on the hub: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION."
            )
        return _fetched_from_hub(place.removeprefix(HUB), ADAPTER, download=True)
    path = Path(place)
    return path / ADAPTER if os.path.isdir(path) else path


def _fetched(url: str, download: bool) -> Path:
    """The file of a URL in torch.hub's cache, downloaded if need be, with the sha256 that its name begins with."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named is None:
        raise MadlabError(f"{url} has no sha256 in its name, so madlab cannot check it: choose other weights.")
    if not path.exists():
        if not download:
            raise NotHere(f"{path.name} is not on this machine: download {url} to {path}.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), named[1])
        except (OSError, RuntimeError) as error:
            raise MadlabError(
                f"{path.name} could not be downloaded ({error}): fetch {url} where there is a network, put the file "
                f"here as {path}, and run this again."
            ) from error
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named[1]):
        raise MadlabError(
            f"{path} is not the file that torchvision published (its sha256 begins with {digest[:8]}): remove it, and "
            "run this again to download it anew."
        )
    return path


def _fetched_from_hub(repository: str, name: str, download: bool) -> Path:
    """A file of the Hugging Face hub in the cache of its own library, downloaded if need be."""
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    except ImportError:
        raise MadlabError("The hub needs huggingface_hub: pip install 'madlab[peers]'.") from None

    repository, _, revision = repository.partition("@")
    try:
        return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=not download))
    except (OSError, EntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        if not download:
            raise NotHere(
                f"{name} of {repository} is not on this machine: run `hf download {repository} {name}`."
            ) from error
        folder = f"models--{repository.replace('/', '--')}"
        raise MadlabError(
            f"{name} of {repository} could not be had ({str(error).splitlines()[0]}): run `hf download {repository} "
            f"{name}` where there is a network, and copy {folder} from its cache to {constants.HF_HUB_CACHE}."
        ) from error


@contextmanager
def _weights_only() -> Iterator[None]:
    """Every torch.load within, whoever calls it, refuses to unpickle anything but tensors and plain containers."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _spoilt(path: Path, model: str, error: Exception) -> MadlabError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return MadlabError(f"{path} does not hold the weights of {model} ({reason}): remove it, and run this again.")
