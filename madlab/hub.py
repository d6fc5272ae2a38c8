"""Networks of torchvision and timm with their published weights, read so that no file can run code.

A file of torchvision's is checked against the sha256 in its name every time, also in the cache, and read with
`torch.load(weights_only=True)`; for timm's networks only safetensors are read.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from madlab.errors import MadlabError, kind_and_reason, reason
from madlab.files.plain import read_bytes
from madlab.files.tensors import MOST
from madlab.sizes import timm_size

ADAPTER = "adapter.safetensors"
"""A domain's file in a run folder, and in one that is shared."""
HUB = "hf://"


class NotHere(MadlabError):
    """Weights would have to be downloaded, but downloading was not allowed."""


HELPERS = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}
"""Networks that torchvision builds in another way for its weights than without: with `transform_input`, and with the
helpers of training whose tensors begin so, if the weights hold them."""
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def torchvision_network(model: str, version: str, download: bool = True, file: Path | None = None) -> nn.Module:
    """A classification network of torchvision with the weights of that name, such as "DEFAULT" or "IMAGENET1K_V2".

    file: a safetensors file to read them from instead. Normalisation and image size are those of the weights' own
    transforms, for a file those of the DEFAULT weights. Raises MadlabError for weights that do not
    exist, cannot be downloaded, or are not what torchvision published; NotHere, without `download`, for weights that
    are not on this machine.
    """
    known = torchvision.models.get_model_weights(model)
    if file is not None:
        make = partial(torchvision.models.get_model, model, weights=None)
        loaded = _from_file(make, model, file, HELPERS.get(model))
        if model == "googlenet":  # as torchvision does once its weights are loaded
            loaded.aux_logits, loaded.aux1, loaded.aux2 = False, None, None
        return _with_facts(loaded, known["DEFAULT"])
    if version not in known.__members__:
        raise MadlabError(
            f"{model} has no weights {version!r} in torchvision: choose one of {', '.join(known.__members__)}."
        )
    weights = known[version]
    path = _fetched(weights.url, download)
    try:
        # torchvision builds some networks in another way for their weights, so it has to load the file itself.
        with weights_only():
            network: Any = torchvision.models.get_model(model, weights=weights)
    except Exception as error:
        raise _spoilt(path, model, error) from error
    return _with_facts(network, weights)


def is_file_name(text: str) -> bool:
    """Whether weights are named by a file, rather than by the name that a library gives them."""
    return "/" in text or os.sep in text or text.endswith((".safetensors", ".pth", ".pt", ".bin"))


def timm_network(model: str, download: bool = True, file: Path | None = None) -> nn.Module:
    """A network of timm with its weights from the Hugging Face hub; normalisation and image size as timm says.

    file: a safetensors file to read them from instead. Raises MadlabError where timm is missing, does not know the
    network, or has no safetensors of it; NotHere, without `download`, for weights that are not on this machine.
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
    if file is not None:
        return _with_timm_facts(_from_file(partial(timm.create_model, model), model, file))
    if config is None or not config.hf_hub_id:
        raise MadlabError(f"timm has no weights of {model!r} on the Hugging Face hub: choose another network.")
    own = config.hf_hub_filename or ""
    name = own if own.endswith(".safetensors") else "model.safetensors"
    path = _fetched_from_hub(config.hf_hub_id, name, f"name it, timm:{model}:{name}", download)
    try:
        with weights_only():
            overlay = {"file": str(path), "custom_load": False}
            network: Any = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        raise _spoilt(path, model, error) from error
    return _with_timm_facts(network)


def _from_file(make: Callable[..., Any], model: str, file: Path, helper: str | None = None) -> Any:
    """An untrained network that `make` makes, filled with every tensor of a safetensors file of the same network.

    helper: as in HELPERS. The head may have another number of classes. Raises MadlabError for a file that holds
    anything else.
    """
    if file.suffix != ".safetensors":
        raise MadlabError(
            f"{file} is no .safetensors file, and other formats can run code: where you trust it, convert it with "
            "torch.load(FILE, weights_only=True) and safetensors.torch.save_file."
        )
    try:
        tensors = load(read_bytes(file, MOST))
    except (SafetensorError, KeyError) as error:
        raise MadlabError(f"{file} is not a whole safetensors file ({error}): fetch it anew.") from error
    if helper is not None:
        has_helpers = any(name.startswith(helper) for name in tensors)
        make = partial(make, transform_input=True, init_weights=False, aux_logits=has_helpers)
    network = make()
    own = network.state_dict()
    head = next(reversed(own))  # what a network of timm or torchvision defines last is the head, bias after weight
    if head in tensors and tensors[head].ndim and len(tensors[head]) != len(own[head]):
        network = make(num_classes=len(tensors[head]))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise MadlabError(f"{file} does not hold the weights of {model} ({told:.200}): give the right file.") from error
    return network


def _with_facts(network: Any, weights: Any) -> nn.Module:
    transforms = weights.transforms()
    network.normalization = {"mean": list(transforms.mean), "std": list(transforms.std)}
    network.resize, network.crop = transforms.resize_size[0], transforms.crop_size[0]
    return network


def _with_timm_facts(network: Any) -> nn.Module:
    size = timm_size(network.pretrained_cfg)
    network.normalization = {key: list(network.pretrained_cfg[key]) for key in ("mean", "std")}
    network.resize, network.crop = size.resize, size.crop
    return network


def domain_file(place: Path | str) -> Path:
    """The file of a domain: a file as it is, that of a run or shared folder, or that of hf://OWNER/NAME[@REVISION].

    From the Hugging Face hub one file is fetched, the adapter, and kept in its library's cache; whatever else lies
    there stays there. Raises MadlabError for an address that is none, and for what cannot be had.
    """
    if isinstance(place, str) and place.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place.removeprefix(HUB)):
            raise MadlabError(
                f"{place!r:.120} is not an address on the hub: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION."
            )
        return _fetched_from_hub(place.removeprefix(HUB), ADAPTER, "give its path", download=True)
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
            raise NotHere(f"{path.name} is not on this machine: run `curl -o {path} {url}`.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), named[1])
        except (OSError, RuntimeError) as error:
            raise MadlabError(
                f"{path.name} could not be downloaded ({error}): run `curl -O {url}` where there is a network, and "
                f"put the file here as {path}."
            ) from error
    digest = "no file"
    if path.is_file():
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named[1]):
        told = f"its sha256 begins with {digest[:8]}" if path.is_file() else "it is not a file"
        raise MadlabError(
            f"{path} is not the file that torchvision published ({told}): remove it, and run this again to download "
            "it again."
        )
    return path


def _fetched_from_hub(repository: str, name: str, use: str, download: bool) -> Path:
    """A file of the Hugging Face hub in the cache of its own library, downloaded if need be.

    use: what to do with the file where it was fetched by hand, for the message.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MadlabError("The hub needs huggingface_hub: pip install 'madlab[peers]'.") from None

    repository, _, revision = repository.partition("@")
    command = f"hf download {repository} {name}" + (f" --revision {revision}" if revision else "")
    try:
        return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=not download))
    except Exception as error:  # a connection that breaks makes its libraries raise nearly anything
        if not download:
            raise NotHere(f"{name} of {repository} is not on this machine: run `{command}`.") from error
        raise MadlabError(
            f"{name} of {repository} could not be fetched ({reason(error)}): run `{command} --local-dir .` "
            f"where there is a network, bring the file here, and {use}."
        ) from error


@contextmanager
def weights_only() -> Iterator[None]:
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
    return MadlabError(
        f"{path} does not hold the weights of {model} ({kind_and_reason(error)}): remove it, and run this again."
    )
