"""Prepared domains by name: from miniature archives to a trained adapter."""

from pathlib import Path

import archives
import pytest
import torch
from archives import tiny

from madlab import MadlabError, load_domain
from madlab.backbones import resnet26
from madlab.benchmarks import decathlon
from madlab.benchmarks.decathlon import prepare_decathlon
from madlab.benchmarks.domain import Domain, Split
from madlab.runs.train import train


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with gtsrb and its test labels, known to madlab as its data folder."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path / "data"))
    with archives.serve(tmp_path / "shelf") as host:
        protocol = archives.decathlon(tmp_path / "shelf", [tiny("gtsrb", 3, (6, 3, 2))], host.url)
        labels = tmp_path / "shelf" / "labels_test.zip"
        prepare_decathlon(tmp_path / "data", protocol=protocol, labels=labels, say=lambda _: None)
    monkeypatch.setattr(decathlon.load, "__defaults__", (None, protocol))
    return tmp_path / "data"


def test_a_prepared_domain_has_a_name(prepared: Path) -> None:
    full = load_domain("decathlon:gtsrb", size=72)
    assert (full.name, full.size, full.flip, len(full.test)) == ("gtsrb", 72, False, 6)
    assert load_domain("decathlon:gtsrb", size=256).size == 72
    assert load_domain("decathlon:gtsrb", size=36, flip=True).flip
    small = load_domain("decathlon:gtsrb", size=36)
    # Halved with antialiasing, smooth pictures are close to the means of two by two pixels.
    blocks = full.train.images.float().unflatten(1, (36, 2)).unflatten(3, (36, 2)).mean((2, 4))
    assert (small.train.images.float() - blocks).abs().mean() < 1.5
    assert small.train.images.shape == (18, 36, 36, 3)
    with pytest.raises(MadlabError, match="no domain 'gtsbr'"):
        load_domain("decathlon:gtsbr")
    with pytest.raises(MadlabError, match="madlab prepare sketch"):
        load_domain("sketch:cubs")


def test_shrinking_keeps_shapes_and_labels() -> None:
    def split(count: int) -> Split:
        shades = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
        return Split(shades.expand(count, 20, 40, 3).contiguous(), torch.arange(count) % 2)

    domain = Domain("x", ["a", "b"], split(250), split(2), split(3))
    small = domain.shrunk(10)
    assert small.train.images.shape == (250, 10, 20, 3)
    assert torch.equal(small.train.images[:, 3, 3, 1], torch.arange(250, dtype=torch.uint8))
    assert torch.equal(small.test.labels, domain.test.labels)
    assert domain.shrunk(20) is domain


def test_a_prepared_domain_trains(prepared: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = resnet26(num_classes=5, width=4)
    base.resize, base.crop, base.name = 72, 64, "small"
    result = train("decathlon:gtsrb", base=base, out=tmp_path / "run", epochs=1, batch_size=9, device="cpu")
    assert result.domain == "gtsrb"
    assert 0 <= result.test_accuracy <= 100
