"""Shared folders: they say nothing of this machine, work elsewhere, and make nobody run or download anything."""

import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from tiny import write_base, write_folder

import madlab
from madlab.exports import share_run
from madlab.hub import domain_file
from madlab.runs.config import RunConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys, madlab
net = madlab.MultiDomainNet(madlab.load_base(sys.argv[1]))
print(net.load_domain(sys.argv[2]), net.domains)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder and on the file of a base network, and what it shares."""
    place = tmp_path_factory.mktemp("secret-place")
    data, base = write_folder(place / "shades"), write_base(place / "small.safetensors")
    madlab.train(data, "mad:2", base=base, out=place / "run", epochs=1, batch_size=8, progress=False, device="cpu")
    share_run(place / "run", place / "shared", license="cc-by-4.0", data="Noise, *made* by <b>code</b>.")
    return place


@pytest.fixture
def hub(place: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has the shared folder as ann/shades: its address, and the paths asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(f"{self.command} {self.path}")
            found = re.fullmatch(r"/ann/shades/resolve/(main|v1)/([\w.]+)", self.path)
            file = place / "shared" / found[2] if found else None
            data = file.read_bytes() if file and file.is_file() else b""
            self.send_response(200 if data else 404)
            for name, value in (("X-Repo-Commit", COMMIT), ("ETag", '"abc"'), ("Content-Length", str(len(data)))):
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def load_elsewhere(address: str, base: str, name: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Load a domain from a hub in a process of its own, whose hub is that address."""
    own = {"HF_ENDPOINT": address, "HF_HOME": str(cache), "NO_PROXY": "*", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", LOAD, base, name]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=300)


def test_the_folder_says_nothing_of_this_machine(place: Path) -> None:
    files = {path.name: path.read_bytes() for path in (place / "shared").iterdir()}
    assert set(files) == {"README.md", "adapter.safetensors", "config.json", "result.json", "metrics.jsonl"}
    for name, data in files.items():
        assert b"secret-place" not in data and os.fsencode(Path.home()) not in data, name
    assert RunConfig.read(place / "shared").base.sha256 == RunConfig.read(place / "run").base.sha256


def test_a_file_of_timms_weights_leaves_no_path(place: Path, tmp_path: Path) -> None:
    """Base networks that were read from a file are named after it: timm:NAME:/home/ann/FILE."""
    from madlab.exports.share import _named

    base = RunConfig.read(place / "run").base
    file = "timm:lcnet_050:/home/ann/lcnet.safetensors"
    named = _named(replace(base, name=file, source=file))
    assert (named.name, named.source) == ("timm:lcnet_050", None)
    public = replace(base, name="timm:lcnet_050", source="timm:lcnet_050")
    assert _named(public) == public


def test_the_card_has_what_a_hub_reads_and_what_a_reader_asks(place: Path) -> None:
    card = (place / "shared" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    facts = yaml.safe_load(front)
    result = json.loads((place / "run" / "result.json").read_text())
    assert facts["license"] == "cc-by-4.0" and facts["library_name"] == "madlab"
    (metric,) = facts["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == pytest.approx(result["test_accuracy"] / 100)
    assert "scaled to 0..1 and normalised with mean" in body and "| validation accuracy |" in body
    assert f"| balanced accuracy, the mean over the classes | {result['balanced_accuracy']:.2f} % |" in body
    assert "% (95 % confidence) |" in body and "in a folder of train/, val/ and test/" in body
    assert result["base"]["sha256"] in body and "\n0. class0\n1. class1\n2. class2\n" in body
    assert r"Noise, \*made\* by \<b\>code\</b\>." in body  # a text is no markup
    for heading in ("Results", "Use", "Base network", "Data", "Intended use", "Licence"):
        assert f"\n## {heading}\n" in body


def test_the_code_of_the_card_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (place / "shared" / "README.md").read_text(), re.S)
    code = code.replace("PATH OF THE BASE NETWORK.safetensors", str(place / "small.safetensors"))
    code = code.replace("hf://OWNER/NAME", str(place / "shared"))
    image = next((place / "shades" / "test").rglob("*.png"))
    names: dict[str, object] = {}
    exec(code.replace("net.predict([", "found = net.predict([").replace("image.jpg", str(image)), names)
    assert len(names["found"][0]) == 3  # type: ignore[index]


def test_a_shared_folder_predicts_and_evaluates_as_the_run_does(place: Path) -> None:
    images = [str(path) for path in sorted((place / "shades" / "test").rglob("*.png"))]
    base = str(place / "small.safetensors")
    shared, own = (madlab.load_run(place / name, base, "cpu") for name in ("shared", "run"))
    assert shared.predict(images) == own.predict(images)
    assert madlab.evaluate(place / "shared", place / "shades", base) == madlab.evaluate(place / "run")


@pytest.mark.slow
def test_from_the_hub_the_adapter_alone_is_fetched(place: Path, hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = hub
    (place / "shared" / "pytorch_model.bin").write_bytes(pickle.dumps("a stranger's"))
    try:
        for name in ("hf://ann/shades", "hf://ann/shades@v1"):
            done = load_elsewhere(address, str(place / "small.safetensors"), name, tmp_path)
            assert done.stdout == "shades ['shades']\n", done.stderr
    finally:
        (place / "shared" / "pytorch_model.bin").unlink()
    files = [path.split("/") for path in asked if "/resolve/" in path]  # the hub's own library asks for more of its hub
    assert {parts[-1] for parts in files} == {"adapter.safetensors"}
    assert {parts[-2] for parts in files} == {"main", "v1"}


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_told(place: Path, hub: tuple[str, list[str]], tmp_path: Path) -> None:
    done = load_elsewhere(hub[0], str(place / "small.safetensors"), "hf://ann/nothing", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "MadlabError: adapter.safetensors of ann/nothing could not be fetched" in last and "timm" not in last


@pytest.mark.parametrize("address", ["hf://", "hf://ann", "hf://ann/shades/a.safetensors", "hf://../..@", "hf://a b/c"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(madlab.MadlabError, match=r"write hf://OWNER/NAME"):
        domain_file(address)


def test_a_strangers_folder_downloads_nothing_and_loads_no_pickle(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config may name any base network; without the user's word none is fetched. An adapter may be a pickle."""
    import huggingface_hub

    stranger = tmp_path / "stranger"
    share_run(place / "run", stranger)

    def refuse(*_: object, local_files_only: bool = False, **__: object) -> None:
        assert local_files_only, "a download was tried"
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for source in ("timm:lcnet_050", "torchvision:shufflenet_v2_x0_5"):
        facts = json.loads((stranger / "config.json").read_text())
        facts["base"]["source"] = source
        (stranger / "config.json").write_text(json.dumps(facts))
        with pytest.raises(madlab.MadlabError, match="to have it downloaded, name it yourself"):
            madlab.load_run(stranger)

    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"alpha": Touch()}, stranger / "adapter.safetensors")
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    with pytest.raises(madlab.MadlabError, match="not a whole safetensors file"):
        net.load_domain(stranger)
    assert not (tmp_path / "touched").exists()


def test_the_command_of_the_card_is_that_of_the_run(place: Path, tmp_path: Path) -> None:
    """Names of domains and base networks are in config.json; what was a file has to be given, in the form it had."""
    card = (place / "shared" / "README.md").read_text()
    base = "'PATH OF THE BASE NETWORK.safetensors'"
    assert f"madlab train --config config.json --domain FOLDER --base {base} --out again" in card
    from madlab.exports.share import _file_of

    used = replace(RunConfig.read(place / "run").base, source="timm:lcnet_050:/home/ann/lcnet.safetensors")
    assert _file_of(used) == "timm:lcnet_050:PATH OF THE BASE NETWORK.safetensors"


def test_names_and_addresses_of_the_card_stay_what_they_are(place: Path, tmp_path: Path) -> None:
    address = "https://example.org/my_photos?a=1&b=2"
    share_run(place / "run", tmp_path / "shared", data=f"From {address} (*all*).")
    assert rf"From {address} (\*all\*)." in (tmp_path / "shared" / "README.md").read_text()


def test_what_is_missing_is_told(place: Path, tmp_path: Path) -> None:
    told = share_run(place / "run", tmp_path / "shared")
    assert any("--license" in line for line in told) and any("--data" in line for line in told)
    assert any("base network is a file of yours" in line for line in told)
    assert 'license: "unknown"' in (tmp_path / "shared" / "README.md").read_text()


def test_bad_input_is_told_and_nothing_is_written(place: Path, tmp_path: Path) -> None:
    with pytest.raises(madlab.MadlabError, match="not a licence's short name"):
        share_run(place / "run", tmp_path / "shared", license="MIT License\nevil: true")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    for more in ({}, {"README.md": "# My thesis", "config.json": "{}"}):  # as nearly every project has
        for name, text in more.items():
            (tmp_path / "mine" / name).write_text(text)
        with pytest.raises(madlab.MadlabError, match="holds something else"):
            share_run(place / "run", tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "# My thesis"
    with pytest.raises(madlab.MadlabError, match="is not a folder"):
        share_run(place / "run", tmp_path / "mine" / "thesis.txt")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    RunConfig.read(place / "run").write(unfinished)
    with pytest.raises(madlab.MadlabError, match="has not finished"):
        share_run(unfinished, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_another_base_network_than_the_shared_one_is_refused_by_its_name(place: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(madlab.MadlabError, match=r"was trained on another base network \(small\)"):
        madlab.MultiDomainNet(madlab.load_base(other)).load_domain(place / "shared")
    with pytest.raises(madlab.MadlabError, match=r"was trained on another base network \(small\)"):
        madlab.load_run(place / "shared", other)


def test_without_the_hubs_library_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(madlab.MadlabError, match=r"^The hub needs huggingface_hub: pip install 'madlab\[peers\]'\.$"):
        domain_file("hf://ann/shades")


@pytest.mark.slow
def test_without_a_network_it_is_said_how_to_bring_the_file(place: Path, tmp_path: Path) -> None:
    done = load_elsewhere("http://127.0.0.1:9", str(place / "small.safetensors"), "hf://ann/shades", tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "MadlabError: adapter.safetensors of ann/shades could not be fetched" in last
    assert "run `hf download ann/shades adapter.safetensors --local-dir .` where there is a network" in last
