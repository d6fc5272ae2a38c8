"""Panels of the first notebooks: what they show is computed again, by hand."""

import pytest
import torch
from torch import nn

import madlab
from madlab import lessons, widgets
from madlab.benchmarks.loader import batches


def test_activations_are_measured_by_what_batchnorm_expects() -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    for norm in (base[1], base[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    images = {"own": torch.randn(6, 3, 5, 5), "new": 2 + torch.randn(6, 3, 5, 5)}
    browser = widgets.activation_browser(base.eval(), images)
    browser.layer.value = 2
    for name, x in images.items():
        with torch.no_grad():
            seen = base[:4](x)
        for channel in range(2):
            values = (seen[:, channel] - base[4].running_mean[channel]) / (base[4].running_var[channel] + 1e-5).sqrt()
            seen[:, channel] = values
        shift = (sum(seen[:, c].mean() ** 2 for c in range(2)) / 2) ** 0.5
        assert browser.state["shift"][name] == pytest.approx(shift.item(), rel=1e-4)
        assert browser.state["ratio"][name] == pytest.approx(min(seen[:, c].std().item() for c in range(2)), rel=1e-4)
    assert browser.state["density"]["own"].sum() * 0.2 == pytest.approx(1, abs=1e-3)


def test_try_out_says_what_the_network_says() -> None:
    domain = madlab.load_domain("signs")
    net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
    names = {method: net.load_domain(lessons.shipped("signs", method), name=method) for method in ("frozen", "mad")}
    panel = widgets.try_out(net, {"signs": domain}, {"signs": names})
    panel.method.value = "mad"
    panel.controls["image"].value = 3
    number = 2 * len(domain.test) // 24 + 2
    one = slice(number, number + 1)
    normalization = net.view("mad").facts.normalization
    x, label = next(batches(domain.test.images[one], domain.test.labels[one], 1, 32, normalization=normalization))
    with torch.no_grad():
        expected = net.merge("mad")(x).softmax(1)[0]
    torch.testing.assert_close(panel.state["probabilities"], expected, atol=1e-4, rtol=1e-3)
    assert panel.state["prediction"] == domain.class_names[expected.argmax()]
    right = bool(expected.argmax() == label.item())
    assert panel.state["right"] == right
    # The note says what the picture shows, for those who cannot see it.
    assert f"This is {panel.state['label']}." in panel.state["note"]
    assert f"the network says {panel.state['prediction']}, " in panel.state["note"]
    assert f"<b>{'right' if right else 'wrong'}</b>" in panel.state["note"]


def test_try_out_shows_images_of_every_digit() -> None:
    net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
    names = {"frozen": net.load_domain(lessons.shipped("digits", "frozen"), name="frozen")}
    domain = madlab.load_domain("digits")
    panel = widgets.try_out(net, {"digits": domain}, {"digits": names})
    seen = set()
    for image in range(1, panel.controls["image"].max + 1):
        panel.controls["image"].value = image
        seen.add(panel.state["label"])
    assert len(seen) == 10


def test_alpha_editor_asks_for_the_answer_with_the_filters_that_are_shown() -> None:
    conv, asked = nn.Conv2d(3, 2, 3), []

    def answer(picture, weight):
        asked.append((picture, weight.clone()))
        return ("one", "two", "three"), (0.1, 0.2, 0.7), 0

    picture = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8)
    neutral = {"mean": [0.0] * 3, "std": [1.0] * 3}
    desk = widgets.alpha_editor(conv, {"a": picture}, neutral, answer=answer)
    desk.into.value, desk.alpha_mn.value = 1, 2.0
    name, weight = asked[-1]
    expected = conv.weight.detach().clone()
    expected[0, 1] *= 2
    assert name == "a" and torch.equal(weight, expected)
    assert desk.state["probabilities"] == (0.1, 0.2, 0.7)
