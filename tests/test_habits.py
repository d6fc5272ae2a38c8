"""Networks with the habits of students' code: view, squeeze, a last softmax, dropout that never stops, and the like."""

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import madlab
from madlab.errors import MadlabError
from madlab.exports.deployable import deployable
from madlab.exports.program import write_program

CLASSES = 3


class Net(nn.Module):
    """A convolution, a norm and a head; what lies between is each network's own."""

    crop = 32

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6)
        self.second, self.head = nn.Conv2d(6, 8, 5), nn.Linear(8, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        return self.second(F.max_pool2d(self.norm(self.conv(x)).relu(), 2)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class LeNet(Net):
    """Flattens by Tensor.view, which channels_last memory does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 5 * 5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.features(x), 2)
        return self.head(x.view(-1, 8 * 5 * 5))


class Patches(Net):
    """Views the images themselves, before any filter."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.view(x.shape[0], -1).mean(1)[:, None, None, None])


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5).add_(0.1))


class Logarithm(Net):
    """Of pixels that are normalised there is none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x + 3).log())


class OwnGrey(Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean(1, keepdim=True))


class Named(Net):
    """Has attributes of its own by the names that madlab gives a merged network."""

    class_names = property(lambda self: ["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.normalization = "batch"
        self.register_buffer("resize", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x * self.resize)
        x = self.norm(x) if self.normalization == "batch" else x
        return self.head(self.second(x.relu()).mean((2, 3)))

    def get_classifier(self, num_classes: int) -> nn.Linear:
        return nn.Linear(8, num_classes)


class Squeezed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 1).squeeze())


class Probabilities(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class NeverStops(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(x).mean((2, 3)), 0.5))


class KeepsBiases(Net):
    """In eval mode it keeps what it computed from a parameter, as timm's LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.gains, self.kept = nn.Parameter(torch.ones(8)), None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.head(self.features(x).mean((2, 3)) * self.gains[[1, 0, *range(2, 8)]])
        if self.kept is None:
            self.kept = self.gains[[1, 0, *range(2, 8)]]
        return self.head(self.features(x).mean((2, 3)) * self.kept)

    def train(self, mode: bool = True) -> "KeepsBiases":
        self.kept = None
        super().train(mode)
        return self


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("habits") / "noise")


def made(kind: type[Net], **attributes: Any) -> Net:
    torch.manual_seed(0)
    network = kind().eval()
    for key, value in attributes.items():
        setattr(network, key, value)
    return network


@pytest.mark.parametrize("kind", [Net, LeNet, Patches, InPlace, Logarithm, OwnGrey, Named])
@pytest.mark.parametrize("method", ["mad", "finetune"])
def test_it_is_trained_evaluated_and_asked_as_the_plain_network_would_be(
    kind: type[Net], method: str, data: Path, tmp_path: Path
) -> None:
    base = made(kind)
    result = madlab.train(data, method, base=copy.deepcopy(base), out=tmp_path / "run", epochs=1, progress=False)
    assert madlab.evaluate(tmp_path / "run", base=copy.deepcopy(base)) == result.test_accuracy
    run = madlab.load_run(tmp_path / "run", base=copy.deepcopy(base))
    picture = next((data / "test").rglob("*.png"))
    (guesses,) = run.predict([picture], top=CLASSES)
    merged = run.net.merge(run.domain)
    domain = madlab.load_domain(data, size=32)
    pixels = torch.from_numpy(madlab.files.pictures.read_image(picture, 32)[None].copy())
    mean, std = (torch.tensor(domain.normalization[key]) for key in ("mean", "std"))
    with torch.no_grad():
        row = merged(((pixels / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()).softmax(1)[0]
    assert sorted(guess.probability for guess in guesses) == pytest.approx(sorted(row.tolist()), abs=1e-4)


def test_what_a_network_calls_by_madlabs_names_stays_its_own() -> None:
    net = madlab.MultiDomainNet(made(Named))
    net.add_domain("d", CLASSES, class_names=["x", "y", "z"], normalization={"mean": [0.5] * 3, "std": [0.2] * 3})
    x, merged = torch.randn(4, 3, 32, 32), net.merge("d")
    assert merged.normalization == "batch" and merged.class_names == ["a", "b", "c"]
    assert torch.allclose(merged(x), net.view("d").eval()(x), atol=1e-5)


def test_what_a_networks_filters_lie_in_says_nothing_of_its_images() -> None:
    """1x1 and depthwise banks lie in both formats at once; only a failure tells."""
    narrow = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
    )
    for base, expected in ((narrow, True), (made(Net), True), (made(LeNet), False), (made(Patches), False)):
        net = madlab.MultiDomainNet(base)
        net.add_domain("d", CLASSES)
        assert net.view("d").channels_last is expected
        assert getattr(net.merge("d"), "channels_last", True) is expected


@pytest.mark.parametrize("kind", [LeNet, InPlace, Logarithm])
def test_it_is_exported_as_the_plain_network(kind: type[Net], tmp_path: Path) -> None:
    net = madlab.MultiDomainNet(made(kind))
    net.add_domain("d", CLASSES, normalization={"mean": [0.5] * 3, "std": [0.2] * 3}, resize=32)
    write_program(deployable(net, "d"), tmp_path / "d.pt2")
    program = torch.export.load(tmp_path / "d.pt2").module()
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(program(x.clone()), net.merge("d")(x.clone()), atol=1e-5)


@pytest.mark.parametrize(
    "kind, words",
    [
        (Squeezed, r"For a single image the base network returns the shape \(3,\), not \(1, 3\)"),
        (Probabilities, "returns probabilities, not logits"),
        (NeverStops, "F.dropout wants training=self.training"),
    ],
)
def test_it_is_refused_in_a_sentence_that_says_what_to_write(kind: type[Net], words: str) -> None:
    base = made(kind)
    state = torch.get_rng_state()
    with pytest.raises(MadlabError, match=words):
        madlab.MultiDomainNet(base)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_kept_from_a_parameter_is_refused_where_that_is_trained_and_only_there() -> None:
    net = madlab.MultiDomainNet(made(KeepsBiases))
    net.add_domain("mad", CLASSES)
    with pytest.raises(MadlabError, match=r"keeps what it computed from a parameter.*a second step of 'finetune'"):
        net.add_domain("tuned", CLASSES, "finetune")
    assert list(net.domains) == ["mad"]


def test_a_sequence_may_be_told_its_size_and_name_after_its_first_domain() -> None:
    base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    net = madlab.MultiDomainNet(base)
    net.add_domain("one", CLASSES)
    net.base.crop, net.base.name = 32, "lenet"
    net.add_domain("two", CLASSES)
    net.base[0].stride = (2, 2)
    with pytest.raises(MadlabError, match="was changed"):
        net.add_domain("three", CLASSES)


def test_a_view_is_not_moved_by_itself() -> None:
    net = madlab.MultiDomainNet(made(Net))
    net.add_domain("d", CLASSES)
    with pytest.raises(MadlabError, match="a device of its own: convert or move"):
        net.view("d").to("meta")


def test_a_list_of_images_with_names_is_told_to_be_stacked() -> None:
    net = madlab.MultiDomainNet(made(Net))
    net.add_domain("d", CLASSES)
    with pytest.raises(MadlabError, match=r"Images must be a tensor .* not a list: stack them"):
        net([torch.zeros(3, 32, 32)] * 2, ["d", "d"])
