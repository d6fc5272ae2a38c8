"""Published weights: right ones are read as their authors read them, wrong ones are told, and none can run code."""

import ast
import hashlib
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file

from madlab.backbones import load_base
from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.hub import NotHere
from madlab.sizes import ImageSize, image_size

ROOT = Path(__file__).resolve().parents[1]
NAME = "shufflenet_v2_x0_5"
WEIGHTS = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1


class Touch:
    """Unpickling this makes a file, as an attacker would."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's folder, empty; a download is refused."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(path: Path, monkeypatch, weights=WEIGHTS) -> Path:
    """Let torchvision believe that this is its file: with the sha256 in its name. Returns its new path."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    named = path.rename(path.with_name(f"{path.stem}-{digest[:8]}.pth"))
    monkeypatch.setattr(weights.value, "url", f"https://download.example/models/{named.name}")
    return named


def test_torchvisions_weights_are_downloaded_checked_and_read(cache, tmp_path, monkeypatch):
    torch.manual_seed(1)
    state = torchvision.models.get_model(NAME).state_dict()
    torch.save(state, tmp_path / "published.pth")
    there = publish(tmp_path / "published.pth", monkeypatch)
    asked = []

    def download(url, place, prefix):
        asked.append((url, prefix))
        shutil.copy(there, place)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    before = dict(os.environ)
    for _ in range(2):
        base = load_base(f"torchvision:{NAME}")
        assert all(torch.equal(value, state[key]) for key, value in base.state_dict().items())
    assert asked == [(WEIGHTS.url, there.stem.rpartition("-")[2])]  # once: then it is in the cache
    assert (base.name, base.training) == (f"torchvision:{NAME}", False)
    assert dict(os.environ) == before


def test_size_and_normalisation_are_those_of_the_weights_that_were_asked_for(cache, monkeypatch):
    known = torchvision.models.MobileNet_V2_Weights
    torch.save(torchvision.models.mobilenet_v2().state_dict(), cache / "mobile.pth")
    named = publish(cache / "mobile.pth", monkeypatch, known.IMAGENET1K_V2)
    monkeypatch.setattr(known.IMAGENET1K_V1.value, "url", f"https://download.example/models/{named.name}")
    for name, size in (
        ("torchvision:mobilenet_v2", ImageSize(232, 224)),
        ("torchvision:mobilenet_v2:IMAGENET1K_V2", ImageSize(232, 224)),
        ("torchvision:mobilenet_v2:IMAGENET1K_V1", ImageSize(256, 224)),
        ("mobilenet_v2", ImageSize(256, 224)),
    ):
        base = load_base(name)
        assert image_size(base) == size
        assert base.normalization == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        assert base.name == name
    with pytest.raises(MadlabError, match=r"no weights 'V3'.*IMAGENET1K_V1, IMAGENET1K_V2"):
        load_base("torchvision:mobilenet_v2:V3")


def test_every_weight_of_torchvision_can_be_checked():
    for name in torchvision.models.list_models(torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            assert re.search(r"-[0-9a-f]{8,}\.pth$", weights.url)


@pytest.mark.parametrize("content", [b"", b"nothing", "truncated"])
def test_a_wrong_file_in_the_cache_is_named(content, cache, monkeypatch):
    torch.save(torchvision.models.get_model(NAME).state_dict(), cache / "net.pth")
    path = publish(cache / "net.pth", monkeypatch)
    path.write_bytes(path.read_bytes()[:-100] if content == "truncated" else content)
    with pytest.raises(MadlabError, match=f"{path} is not the file that torchvision published.*remove it"):
        load_base(f"torchvision:{NAME}")


def test_weights_of_another_network_are_named(cache, monkeypatch):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), cache / "net.pth")
    path = publish(cache / "net.pth", monkeypatch)
    with pytest.raises(MadlabError, match=f"{path} does not hold the weights of {NAME}"):
        load_base(f"torchvision:{NAME}")


def as_saved(path: Path, payload: object) -> None:
    torch.save({"weight": torch.zeros(2), "more": payload}, path)


def as_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps(payload))


def as_old_zip(path: Path, payload: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # torch.hub unpacks a zip with one file in it
        archive.writestr("weights.pth", pickle.dumps(payload))


@pytest.mark.parametrize("write", [as_saved, as_pickle, as_old_zip])
def test_a_file_with_the_right_hash_cannot_run_code(write, cache, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    write(cache / "net.pth", Touch(marker))
    path = publish(cache / "net.pth", monkeypatch)
    with pytest.raises(MadlabError, match=f"{path} does not hold the weights of {NAME}"):
        load_base(f"torchvision:{NAME}")
    assert not marker.exists()
    try:
        torchvision.models.get_model(NAME, weights=WEIGHTS)  # what torchvision does by itself
    except Exception as error:
        assert "Touch" not in str(error)
    assert marker.exists()


TIMM = "test_convnext"


def from_hub(path: Path, monkeypatch) -> list[tuple[str, str]]:
    """Let the hub's library return this file; what it is asked for."""
    asked = []

    def download(repository, name, revision=None, local_files_only=False):
        asked.append((repository, name))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_timms_weights_are_read_from_safetensors(tmp_path, monkeypatch):
    torch.manual_seed(2)
    state = timm.create_model(TIMM).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    asked = from_hub(tmp_path / "model.safetensors", monkeypatch)
    base = load_base(f"timm:{TIMM}")
    assert all(torch.equal(value, state[key]) for key, value in base.state_dict().items())
    expected = timm.data.resolve_model_data_config(timm.create_model(TIMM))
    assert base.normalization == {"mean": list(expected["mean"]), "std": list(expected["std"])}
    assert base.crop == expected["input_size"][-1]
    assert (base.name, base.training) == (f"timm:{TIMM}", False)
    ((repository, name),) = asked
    assert (repository.startswith("timm/test_convnext."), name) == (True, "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"nothing", "pickle", "another"])
def test_a_wrong_file_of_timm_is_named_and_cannot_run_code(content, tmp_path, monkeypatch):
    path, marker = tmp_path / "model.safetensors", tmp_path / "ran"
    if content == "pickle":
        torch.save(Touch(marker), path)
    elif content == "another":
        save_file(timm.create_model("test_vit").state_dict(), path)
    else:
        path.write_bytes(content)
    from_hub(path, monkeypatch)
    with pytest.raises(MadlabError, match=f"{path} does not hold the weights of {TIMM}.*remove it"):
        load_base(f"timm:{TIMM}")
    assert not marker.exists()


def test_no_weights_of_timm_are_asked_for_in_another_format(monkeypatch):
    asked = []

    def refuse(repository, name, revision=None, local_files_only=False):
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    for name in timm.list_pretrained():
        with pytest.raises(MadlabError):
            load_base(f"timm:{name}")
    assert len(asked) > 1000
    assert {Path(name).suffix for name in asked} == {".safetensors"}


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("offline"), EntryNotFoundError("none"), OSError("no route")])
def test_without_network_the_command_is_told(error, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(MadlabError) as told:
        load_base(f"timm:{TIMM}")
    assert re.search(r"run `hf download timm/test_convnext\.\w+ model\.safetensors --local-dir \.`", str(told.value))
    assert str(told.value).endswith(f"timm:{TIMM}:model.safetensors.")


@pytest.mark.parametrize("name", ["timm:nothing", f"timm:{TIMM}.nothing"])
def test_timm_without_such_a_network_is_told(name):
    with pytest.raises(MadlabError, match=r"timm has no .*list them"):
        load_base(name)


FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load",
    "hub.load", "torch.jit.load", "torch.export.load", "torch.package.PackageImporter", "pd.read_pickle",
    "pandas.read_pickle",
}  # fmt: skip
LOADERS = {"torch.load", "load_state_dict_from_url", "torch.hub.load_state_dict_from_url"}


def ways_in(source: str) -> list[str]:
    """What in this Python code could unpickle or run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
            found += names & (FORBIDDEN_CALLS | LOADERS)
        elif isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in FORBIDDEN_CALLS or (called in LOADERS and keywords.get("weights_only") != "True"):
                found.append(called)
            found += [key for key in ("allow_pickle", "trust_remote_code") if keywords.get(key, "False") != "False"]
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import os, shelve",
        "from torch import load",
        "from torch.hub import load_state_dict_from_url",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "torch.hub.load_state_dict_from_url(url)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "x = [exec(t) for t in texts]",
        "torch.hub.load('a/b', 'c')",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_finds_every_way_in(code):
    assert ways_in(code)


@pytest.mark.parametrize(
    "code", ["torch.load(p, weights_only=True)", "network.eval()", "np.load(p, allow_pickle=False)"]
)
def test_the_search_lets_the_rest_pass(code):
    assert not ways_in(code)


def test_nothing_in_madlab_or_its_scripts_unpickles_or_runs_what_it_reads():
    files = [*(ROOT / "madlab").rglob("*.py"), *(ROOT / "data_scripts").rglob("*.py")]
    assert len(files) > 50
    found = {file.relative_to(ROOT).as_posix(): ways_in(file.read_text()) for file in files}
    # An archive of torch.export is read where it was written this moment, to check it, and with weights_only.
    assert found.pop("madlab/exports/program.py") == ["torch.export.load"]
    assert {file: ways for file, ways in found.items() if ways} == {}


@pytest.mark.parametrize("name", [f"torchvision:{NAME}", f"torchvision:{NAME}:DEFAULT", NAME])
def test_nothing_is_downloaded_where_that_is_not_wanted(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("it downloaded"))
    with pytest.raises(NotHere, match="is not on this machine"):
        load_base(name, download=False)


def test_a_local_file_fills_a_network_of_timm(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(TIMM, num_classes=7)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    base = load_base(f"timm:{TIMM}:{tmp_path / 'own.safetensors'}", download=False)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in base.state_dict().items())
    assert base.name == f"timm:{TIMM}:own.safetensors" and not base.training
    size = timm.data.resolve_model_data_config(network)
    assert base.crop == size["input_size"][-1] and base.normalization["mean"] == list(size["mean"])


def test_a_local_file_fills_a_network_of_torchvision(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model(NAME, num_classes=7)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    base = load_base(f"torchvision:{NAME}:{tmp_path / 'own.safetensors'}", download=False)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in base.state_dict().items())
    assert image_size(base) == ImageSize(256, 224)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("helpers", [True, False])
def test_a_local_file_makes_the_network_that_torchvision_makes_of_its_weights(name, helpers, tmp_path, monkeypatch):
    """Published files have the helpers of training; files saved later may not."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, init_weights=False, transform_input=True, aux_logits=True).eval()
    weights = torchvision.models.get_model_weights(name).DEFAULT
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: network.state_dict())
    expected = torchvision.models.get_model(name, weights=weights).eval()  # what is loaded in the usual way
    saved = {key: value for key, value in network.state_dict().items() if helpers or not key.lower().startswith("aux")}
    save_file(saved, tmp_path / "own.safetensors")
    base, images = load_base(f"torchvision:{name}:{tmp_path / 'own.safetensors'}"), torch.randn(1, 3, 96, 96)
    assert torch.equal(base(images), expected(images))
    if helpers:
        assert fingerprint(base) == fingerprint(expected)


def test_a_local_file_that_does_not_fit_is_told(tmp_path):
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(MadlabError, match=f"does not hold the weights of {NAME} .*give the right file"):
        load_base(f"torchvision:{NAME}:{tmp_path / 'other.safetensors'}")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:100])
    with pytest.raises(MadlabError, match="not a whole safetensors file"):
        load_base(f"timm:{TIMM}:{tmp_path / 'cut.safetensors'}")
    with pytest.raises(MadlabError, match="There is no file"):
        load_base(f"timm:{TIMM}:{tmp_path / 'absent.safetensors'}")


def test_a_local_pickle_is_never_opened(tmp_path):
    marker = tmp_path / "touched"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"fc.weight": Touch(marker)}))
    for name in (f"timm:{TIMM}", f"torchvision:{NAME}"):
        with pytest.raises(MadlabError, match=r"other formats can run code: .*weights_only=True"):
            load_base(f"{name}:{tmp_path / 'evil.pth'}")
    assert not marker.exists()
