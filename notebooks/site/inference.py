"""The data of the page "Try it": the base network once, three domains as a vector each, ONNX Runtime's WebAssembly.

The network takes a domain's adapters, norms and head as an input, so that the page changes domain and rank without
another network. Everything becomes one script that sets a variable, gzipped and in base64: a page that was opened from
a folder (file://) may not fetch anything, but it may run scripts beside it.
"""

import base64
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from torch import Tensor, nn

import madlab
from madlab.lessons.shipped import DOMAINS, shipped
from madlab.network import MultiDomainNet
from madlab.runs.record import RECORDS, read_runs

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "build" / "site-tools" / "node_modules" / "onnxruntime-web" / "dist"
"""Where `make site` lets npm put ONNX Runtime's build for browsers."""
OUT = ROOT / "build" / "inference"
SAMPLES = 8
"""Test images of each domain that the page offers, evenly spread over the split."""


class Playable(nn.Module):
    """The base network with a domain's own numbers, and the rank of its modulations, as inputs.

    forward(images, own, rank): images float32 (1, 3, crop, crop), normalised; own float32 (numbers,), as `numbers`
    packs them; rank float32 (1,), how many directions of alpha - 1 are kept in every layer. Returns logits (1, most),
    where those beyond the domain's classes are zero.
    """

    def __init__(self, net: MultiDomainNet, most: int):
        super().__init__()
        view = net.view(net.domains[0])
        self.most = most
        self.convs, self.norms, self.head = list(net.convs), list(view.norms), view.facts.heads[0]
        self.network = _plain(net)
        features = self.network.get_submodule(self.head).in_features
        self.network.set_submodule(self.head, nn.Linear(int(features), most))
        self.network.eval().requires_grad_(False)

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the tensors that a domain's numbers consist of, one after the other."""
        shapes: list[tuple[int, ...]] = []
        for name in self.convs:
            m, n = self.network.get_submodule(name).weight.shape[:2]
            shapes += [(m, min(m, n)), (min(m, n), n)]
        for name in self.norms:
            shapes += [self.network.get_submodule(name).weight.shape] * 2
        head = self.network.get_submodule(self.head)
        return [*shapes, tuple(head.weight.shape), tuple(head.bias.shape)]

    def numbers(self, net: MultiDomainNet, domain: str) -> Tensor:
        """A domain's directions of alpha - 1 by size, the scale and shift of its norms, and its head, as one vector."""
        view, parts = net.view(domain), []
        for name in self.convs:
            u, sigma, v = torch.linalg.svd(view.adapters()[name].alpha.detach() - 1, full_matrices=False)
            parts += [u * sigma.sqrt(), sigma.sqrt()[:, None] * v]
        for name in self.norms:
            norm = view.network.get_submodule(name)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            parts += [scale, norm.bias - norm.running_mean * scale]
        head = view.head
        missing = self.most - head.out_features
        parts += [nn.functional.pad(head.weight, (0, 0, 0, missing)), nn.functional.pad(head.bias, (0, missing))]
        return torch.cat([part.detach().flatten() for part in parts])

    def forward(self, images: Tensor, own: Tensor, rank: Tensor) -> Tensor:
        shapes = self.shapes()
        sizes = [torch.Size(shape).numel() for shape in shapes]
        parts = [part.reshape(shape) for part, shape in zip(own.split(sizes), shapes, strict=True)]
        replaced: dict[str, Tensor] = {}
        for name in self.convs:
            u, v = parts.pop(0), parts.pop(0)
            alpha = 1 + (u * (torch.arange(u.shape[1]) < rank)) @ v
            replaced[f"{name}.weight"] = self.network.get_submodule(name).weight * alpha[:, :, None, None]
        for name in self.norms:
            scale, shift = parts.pop(0), parts.pop(0)
            rest = {"weight": scale, "bias": shift, "running_mean": 0 * scale, "running_var": 0 * scale + 1}
            replaced |= {f"{name}.{key}": value for key, value in rest.items()}
        replaced |= {f"{self.head}.weight": parts.pop(0), f"{self.head}.bias": parts.pop(0)}
        return torch.func.functional_call(self.network, replaced, (images,))


def _plain(net: MultiDomainNet) -> nn.Module:
    """The base's structure and filters with norms that add no eps, because scale and shift contain it already."""
    network = net.merge(net.domains[0])
    for name, conv in net.convs.items():
        network.get_submodule(name).weight.data.copy_(conv.weight)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return network


def trained() -> MultiDomainNet:
    """The shipped base network with its shipped MAD domains."""
    net = MultiDomainNet(madlab.load_base("pocket-resnet26"))
    for domain in DOMAINS:
        net.load_domain(shipped(domain, "mad"))
    return net


def playable(net: MultiDomainNet) -> Playable:
    """The network of the page for all domains of `net`."""
    return Playable(net, max(net.view(domain).facts.num_classes for domain in net.domains))


def to_onnx(model: Playable, own: Tensor, crop: int) -> bytes:
    """The network as an ONNX file with inputs "images", "own" and "rank" and the output "logits"."""
    example = (torch.zeros(1, 3, crop, crop), own, torch.tensor([1.0]))
    names: dict[str, Any] = {"input_names": ["images", "own", "rank"], "output_names": ["logits"]}
    model.train(False)
    exported: Any = torch.onnx.export(model, example, dynamo=True, verbose=False, **names)
    return exported.model_proto.SerializeToString()


def samples(domain: str) -> list[str]:
    """Some test images of a domain, each of another class, as addresses that contain the picture."""
    test = madlab.load_domain(domain).test
    labels = test.labels.tolist()
    firsts = [labels.index(label) for label in sorted(set(labels))]
    found = []
    for number in range(SAMPLES):
        data = io.BytesIO()
        Image.fromarray(test.images[firsts[number * len(firsts) // SAMPLES]].numpy()).save(data, "PNG")
        found.append("data:image/png;base64," + base64.b64encode(data.getvalue()).decode())
    return found


def write(folder: Path, runtime: Path) -> Sequence[Path]:
    """Write the page's scripts into a folder. runtime: dist/ of the npm package onnxruntime-web."""
    net = trained()
    model = playable(net)
    crop = net.view(net.domains[0]).facts.crop or 32
    domains = {}
    for name in net.domains:
        facts = net.view(name).facts
        domains[name] = {
            "classes": list(facts.class_names),
            "normalization": facts.normalization,
            "resize": facts.resize,
            "crop": crop,
            "own": packed(model.numbers(net, name).numpy().tobytes()),
            "samples": samples(name),
        }
    everything = {
        "wasm": packed((runtime / "ort-wasm-simd-threaded.wasm").read_bytes()),
        "glue": packed((runtime / "ort-wasm-simd-threaded.mjs").read_bytes()),
        "model": packed(to_onnx(model, model.numbers(net, net.domains[0]), crop)),
        "most": max(min(conv.weight.shape[:2]) for conv in net.convs.values()),
        "domains": domains,
    }
    files = [folder / "inference-data.js", folder / "ort.js"]
    folder.mkdir(parents=True, exist_ok=True)
    files[0].write_text(f"window.MADLAB_INFERENCE = {json.dumps(everything)};\n")
    files[1].write_bytes((runtime / "ort.wasm.min.js").read_bytes())
    return files


def accuracies() -> dict[str, str]:
    """Test accuracy of each shipped MAD domain in percent, as the page says it."""
    runs = read_runs(RECORDS / "shipped.jsonl")
    return {run.result.domain: f"{run.result.test_accuracy:.1f}" for run in runs if run.method == "mad"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the page's scripts static files of the site, and its accuracies words that the page may use."""
    if not RUNTIME.is_dir():
        raise ExtensionError("onnxruntime-web is missing: `make site` fetches it with npm, which comes with Node.js.")
    write(OUT, RUNTIME)
    app.connect("config-inited", _add_to_config)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_to_config(app: Sphinx, config: Config) -> None:
    config.html_static_path.append(str(OUT))
    config.myst_substitutions |= accuracies()


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
