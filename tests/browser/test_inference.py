"""The page "Try it": the network in the browser says what PyTorch says."""

import base64
import importlib
import io
import sys

import numpy as np
import pytest
import torch
from jupyter_driver import FLAGS, chromium
from notebook_tools import ROOT
from PIL import Image

import madlab

pytest.importorskip("onnx")
pytest.importorskip("sphinx")
sys.path.insert(0, str(ROOT / "notebooks" / "site"))
inference = importlib.import_module("inference")
PAGE = '<!doctype html><meta charset="utf-8"><title>Try it</title><body>'


@pytest.fixture
def browser():
    if chromium() is None:
        pytest.exit("There is no Chromium: install Debian's package chromium, or name another in CHROMIUM.", 2)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)


@pytest.mark.browser
def test_logits_agree_with_pytorch_for_every_domain_and_rank(tmp_path, browser) -> None:
    if not inference.RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not there: make site fetches it")
    folder = tmp_path / "_static"
    inference.write(folder, inference.RUNTIME)
    static = ROOT / "notebooks" / "site" / "static"
    (folder / "inference.js").write_text((static / "inference.js").read_text())
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.html").write_text(PAGE + (static / "inference.html").read_text())

    page, errors = browser.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "site" / "page.html").as_uri())
    page.wait_for_selector("#inference[data-answer]", timeout=60_000)

    net = inference.trained()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for domain in net.domains:
        for rank in (0, 5, 128):
            answer = page.evaluate("([x, d, r]) => MADLAB_LOGITS(x, d, r)", [images.flatten().tolist(), domain, rank])
            torch.testing.assert_close(torch.tensor(answer), logits(domain, rank, images), atol=1e-3, rtol=0)
    assert errors == []


def logits(domain: str, rank: int, images: torch.Tensor) -> torch.Tensor:
    """PyTorch's own, with alpha - 1 of every layer cut to its largest directions."""
    copy = inference.trained()
    for adapter in copy.view(domain).adapters().values():
        u, sigma, v = torch.linalg.svd(adapter.alpha.detach() - 1, full_matrices=False)
        adapter.alpha.data.copy_(1 + (u[:, :rank] * sigma[:rank]) @ v[:rank])
    with torch.inference_mode():
        return copy(images, domain=domain)[0]


@pytest.mark.parametrize("domain", ["signs", "glyphs", "digits"])
def test_the_samples_of_a_domain_are_of_as_many_classes(domain) -> None:
    test, labels = madlab.load_domain(domain).test, []
    for address in inference.samples(domain):
        picture = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))))
        labels += test.labels[(test.images == picture).flatten(1).all(1)].tolist()
    assert len(set(labels)) == len(labels) == inference.SAMPLES


def test_the_networks_input_holds_a_whole_domain() -> None:
    net = inference.trained()
    model, images = inference.playable(net), torch.randn(1, 3, 32, 32)
    for domain in net.domains:
        answer = model(images, model.numbers(net, domain), torch.tensor([128.0]))
        expected = net(images, domain=domain)
        torch.testing.assert_close(answer[:, : expected.shape[1]], expected, atol=1e-4, rtol=0)
        assert not answer[:, expected.shape[1] :].any()
