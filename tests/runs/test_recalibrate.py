"""Fresh statistics against a pass over the data that is written by hand."""

import pytest
import tiny
import torch
from torch import nn

import madlab
from madlab.adapters.rounding import rounded_numbers
from madlab.benchmarks import load_domain
from madlab.benchmarks.loader import batches, normalise
from madlab.errors import MadlabError
from madlab.runs.recalibrate import recalibrate, round_domain


@pytest.fixture
def place(tmp_path):
    tiny.write_folder(tmp_path / "noise", counts=(20, 2, 2))
    net = madlab.MultiDomainNet(madlab.load_base(tiny.write_base(tmp_path / "small.safetensors")))
    return net, load_domain(str(tmp_path / "noise"), size=36)


def inputs_of(view, images) -> dict[str, torch.Tensor]:
    """What every BatchNorm gets, in training mode, without touching a running average."""
    seen, handles = {}, []
    for name, norm in view.norm_layers().items():
        handles.append(norm.register_forward_hook(lambda _, x, __, name=name: seen.update({name: x[0].detach()})))
    kept = {name: tensor.clone() for name, tensor in view.own_state().items()}
    view.train()
    with torch.no_grad():
        view(images)
    view.load_own_state(kept)
    for handle in handles:
        handle.remove()
    return seen


def test_they_are_the_averages_of_one_pass_in_random_order(place) -> None:
    net, domain = place
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    view = net.view("noise")
    with torch.no_grad():
        for adapter in view.adapters().values():
            adapter.alpha.mul_(1.5)  # filters that the stored statistics do not fit
    before = {name: tensor.clone() for name, tensor in view.own_state().items()}
    generator = torch.Generator().manual_seed(3)
    means: dict[str, list[torch.Tensor]] = {}
    variances: dict[str, list[torch.Tensor]] = {}
    orders = []
    for images, labels in batches(
        domain.train.images, domain.train.labels, 15, 32, generator=generator, normalization=domain.normalization
    ):  # in batches of at most 16 the 60 images make four of 15
        orders.append(labels)
        for name, x in inputs_of(view, images).items():
            flat = x.double().transpose(0, 1).flatten(1)
            means.setdefault(name, []).append(flat.mean(1))
            variances.setdefault(name, []).append(flat.var(1))
    assert all(len(labels.unique()) > 1 for labels in orders), "sorted classes would spoil the statistics"

    recalibrate(view, domain, 32, batch_size=16, seed=3)
    assert not view.training
    for name, norm in view.norm_layers().items():
        torch.testing.assert_close(norm.running_mean.double(), torch.stack(means[name]).mean(0), atol=1e-4, rtol=1e-4)
        wanted = torch.stack(variances[name]).mean(0)
        torch.testing.assert_close(norm.running_var.double(), wanted, atol=1e-4, rtol=1e-3)
        assert isinstance(norm, nn.BatchNorm2d) and norm.momentum == 0.1
    for name, tensor in view.own_state().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(tensor, before[name]), name
    net.check_base()


def test_a_last_batch_of_few_images_does_not_count_as_much_as_the_others(place) -> None:
    """Of the 60 images in batches of 58, two would have half of the weight: the first layer's mean is that of all."""
    net, domain = place
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    view = net.view("noise")
    recalibrate(view, domain, domain.size, batch_size=58)
    images = normalise(domain.train.images.permute(0, 3, 1, 2), domain.normalization)
    name, norm = next(iter(view.norm_layers().items()))
    wanted = inputs_of(view, images)[name].double().mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean.double(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 7, 8, 11, 29, 64])
def test_all_batches_are_of_one_size(place, batch_size) -> None:
    net, domain = place
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    view, sizes = net.view("noise"), []
    next(iter(view.norm_layers().values())).register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    recalibrate(view, domain, 32, batch_size=batch_size)
    assert len(set(sizes)) == 1 and 2 <= sizes[0] <= batch_size
    assert 0 <= len(domain.train) - sum(sizes) < len(sizes)


class Frozen(nn.BatchNorm2d):
    """The usual way to freeze a norm: it stays in eval mode."""

    def train(self, mode=True):
        return super().train(False)


def test_a_norm_that_takes_no_statistics_keeps_its_own(place) -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(3, 4, 3), Frozen(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    base = nn.Sequential(*base[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    base[1].running_mean.fill_(0.3)
    base[1].running_var.fill_(2.0)
    base.crop = 32
    net, domain = madlab.MultiDomainNet(base), place[1]
    net.add_domain("d", domain.num_classes, "batchnorm")
    view = net.view("d")
    recalibrate(view, domain, 32)
    frozen, other = view.norm_layers().values()
    assert torch.equal(frozen.running_mean, torch.full((4,), 0.3)) and torch.equal(
        frozen.running_var, torch.full((4,), 2.0)
    )
    assert int(other.num_batches_tracked) > 0


def test_labels_are_not_read(place) -> None:
    net, domain = place
    for name in ("one", "other"):
        net.add_domain(name, 3, "mad", normalization=domain.normalization)
    net.view("other").load_own_state(net.view("one").own_state())
    recalibrate(net.view("one"), domain, 32)
    domain.train.labels.zero_()
    recalibrate(net.view("other"), domain, 32)
    one, other = (net.view(name).own_state() for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_bases_own_statistics_are_left_alone(place) -> None:
    net, domain = place
    net.add_domain("noise", 3, "frozen")
    with pytest.raises(MadlabError, match="'frozen' keeps the base's BatchNorm statistics"):
        recalibrate(net.view("noise"), domain, 32)


def test_norms_that_are_off_in_use_are_left_alone(place) -> None:
    """Those of an auxiliary output run in training only, so that no domain has its own: they are the base's."""

    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
            self.side, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)
            self.side.running_mean.fill_(0.3)

        def forward(self, x):
            x = self.body(x)
            return self.head((self.side(x) if self.training else x).mean((2, 3)))

    _, domain = place
    net = madlab.MultiDomainNet(Auxiliary())
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    before = {name: tensor.clone() for name, tensor in net.base.state_dict().items()}
    recalibrate(net.view("noise"), domain, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.base.state_dict().items())
    net.check_base()
    (measured,) = net.view("noise").norm_layers().values()
    assert not torch.equal(measured.running_mean, before["body.1.running_mean"])


def test_a_name_that_is_taken_is_told_as_it_was_given(place) -> None:
    net, domain = place
    net.add_domain("noise", 3, "mad")
    with pytest.raises(MadlabError, match=r"^There is already a domain 'noise'"):
        round_domain(net, "noise", "noise", 4, domain, 32)


def test_folded_norms_have_no_statistics_to_measure(place, tmp_path) -> None:
    net, domain = place
    net.add_domain("noise", 3, "mad")
    net.save_domain("noise", tmp_path / "folded.safetensors", norms="folded")
    net.load_domain(tmp_path / "folded.safetensors", name="folded")
    with pytest.raises(MadlabError, match="stored as scale and shift"):
        recalibrate(net.view("folded"), domain, 32)
    with pytest.raises(MadlabError, match="stored as scale and shift"):
        round_domain(net, "folded", "small", 4, domain, 32)
    assert net.domains == ["noise", "folded"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crop": 64}, "Windows of 64 pixels cannot be cut from images of 36"),
        ({"crop": 32, "batch_size": 1}, "Batches of 1 images have no variance"),
        ({"crop": 32, "batch_size": 2.5}, "Batches of 2.5 images have no variance"),
        ({"crop": 16.0}, "Windows of 16.0 pixels"),
    ],
)
def test_what_cannot_be_measured_changes_nothing(place, options, sentence) -> None:
    net, domain = place
    net.add_domain("noise", 3, "mad")
    view = net.view("noise")
    recalibrate(view, domain, 32)
    before = {name: tensor.clone() for name, tensor in view.own_state().items()}
    with pytest.raises(MadlabError, match=sentence):
        recalibrate(view, domain, **options)
    with torch.no_grad():
        next(iter(net.convs.values())).weight.mul_(2)
    with pytest.raises(MadlabError, match="base network was changed"):
        recalibrate(view, domain, 32)  # noticed within the pass, when the statistics are reset already
    assert all(torch.equal(tensor, before[name]) for name, tensor in view.own_state().items())
    assert all(norm.momentum == 0.1 for norm in view.norm_layers().values()) and not view.training


def test_images_are_normalised_as_the_domain_is_run(place) -> None:
    """Not as the images given would be: on what `predict` feeds it, every channel has mean 0 and variance 1."""
    net, domain = place
    net.add_domain("noise", 3, "mad", normalization={"mean": [0.1] * 3, "std": [0.9] * 3})
    view = net.view("noise")
    recalibrate(view, domain, 36)
    images = normalise(domain.train.images.permute(0, 3, 1, 2), {"mean": [0.1] * 3, "std": [0.9] * 3})
    first, norm = next(iter(inputs_of(view, images).values())), next(iter(view.norm_layers().values()))
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(norm.running_var, first.transpose(0, 1).flatten(1).var(1), atol=1e-4, rtol=1e-2)


def test_dropout_is_off_as_it_is_in_use(place) -> None:
    _, domain = place
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    net = madlab.MultiDomainNet(nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    recalibrate(net.view("noise"), domain, 36)
    images = normalise(domain.train.images.permute(0, 3, 1, 2), domain.normalization)
    norm = net.view("noise").norm_layers()["0.3"]
    with torch.no_grad():
        seen = net.view("noise").network[0][:3].eval()(images)
    torch.testing.assert_close(norm.running_var, seen.transpose(0, 1).flatten(1).var(1), atol=1e-4, rtol=0.02)


def test_a_rounded_domain_has_rounded_numbers_and_statistics_that_fit_them(place) -> None:
    """By hand: round alpha where it is, measure anew."""
    net, domain = place
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    view = net.view("noise")
    with torch.no_grad():
        for adapter in view.adapters().values():
            adapter.alpha.copy_(1 + 0.5 * torch.randn_like(adapter.alpha))
    recalibrate(view, domain, 32)
    before = {name: tensor.clone() for name, tensor in view.own_state().items()}
    round_domain(net, "noise", "small", 2, domain, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in view.own_state().items())
    with torch.no_grad():
        for adapter in view.adapters().values():
            adapter.alpha.copy_(rounded_numbers(adapter.alpha, torch.ones_like(adapter.alpha), 2))
    recalibrate(view, domain, 32)
    small = net.view("small").own_state()
    for name, tensor in view.own_state().items():
        torch.testing.assert_close(small[name], tensor, msg=name)
    assert any(not torch.allclose(tensor, before[name], rtol=0.02) for name, tensor in small.items() if "_mean" in name)


def test_a_rounded_domain_that_has_the_bases_norms_keeps_them(place) -> None:
    net, domain = place
    net.add_domain("noise", 3, "frozen")
    round_domain(net, "noise", "small", 4, domain, 32)
    before, after = (net.view(name).own_state() for name in ("noise", "small"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items() if "running" in name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mad", "finetune", "batchnorm"])
@pytest.mark.parametrize(("batch_size", "fresh"), [(64, True), (10, True), (4, False)])
def test_a_run_of_few_steps_keeps_statistics_that_fit_its_filters(tmp_path, method, batch_size, fresh) -> None:
    """24 images make epochs of 1 and 3 steps, 60 images some of 15."""
    tiny.write_folder(tmp_path / "noise", counts=(8 if fresh else 20, 4, 4))
    base = tiny.write_base(tmp_path / "small.safetensors")
    options = {"epochs": 3, "batch_size": batch_size, "progress": False, "device": "cpu"}
    madlab.train(str(tmp_path / "noise"), method, base=base, out=tmp_path / "run", **options)
    run, domain = madlab.load_run(tmp_path / "run", device="cpu"), load_domain(str(tmp_path / "noise"), size=36)
    view = run.net.view("noise")
    before = {name: tensor.clone() for name, tensor in view.own_state().items()}
    recalibrate(view, domain, 32, batch_size=batch_size)
    same = [torch.allclose(before[name], tensor, rtol=1e-2) for name, tensor in view.own_state().items()]
    assert all(same) == fresh
