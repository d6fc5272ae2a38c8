"""Trained domains at work on one image at a time; used in notebook 00."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from madlab import figures
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.benchmarks.split import Split
from madlab.network import MultiDomainNet
from madlab.widgets.panel import Panel, choice, slider

IMAGES = 24
"""Test images of a domain that can be chosen, of as many classes as possible."""


def try_out(
    net: MultiDomainNet,
    domains: Mapping[str, Domain],
    adapted: Mapping[str, Mapping[str, str]],
) -> Panel:
    """Choose a domain, one of its test images and a method, and see what the network says: the likeliest classes.

    adapted: domain -> method -> the name under which `net` has it. The panel's `state` has probabilities (classes,),
    prediction and label (class names), and right.
    """

    def draw(figure: Figure, domain: str, image: int, method: str) -> dict[str, Any]:
        split, names = domains[domain].test, domains[domain].class_names
        # Evenly spread over the split, and each one further: labels often run through the classes again and again,
        # and even steps alone would meet the same few.
        number = ((image - 1) * len(split) // IMAGES + image - 1) % len(split)
        one = Split(split.images[number : number + 1], split.labels[number : number + 1])
        probabilities, label = _probabilities(net, adapted[domain][method], one), int(one.labels)
        prediction = int(probabilities.argmax())

        left, right = figure.add_axes((0.02, 0.08, 0.28, 0.78)), figure.add_axes((0.50, 0.18, 0.47, 0.68))
        figures.pictures(left, one.images, columns=1)
        left.set_title(f"this is {names[label]}")
        figures.class_bars(right, names, probabilities.tolist(), label)
        right.set_title("right" if prediction == label else f"wrong: {names[prediction]}")
        verdict = "right" if prediction == label else "wrong"
        sure = f"with a probability of {100 * float(probabilities[prediction]):.0f} %"
        return {
            "note": f"This is {names[label]}. With <b>{method}</b> the network says {names[prediction]}, {sure}: "
            f"<b>{verdict}</b>.",
            "probabilities": probabilities,
            "prediction": names[prediction],
            "label": names[label],
            "right": prediction == label,
        }

    methods: Sequence[str] = list(next(iter(adapted.values())))
    controls = {
        "domain": choice("domain", list(domains)),
        "image": slider("image", 1, IMAGES, 1, continuous=True),
        "method": choice("method", methods),
    }
    return Panel(draw, controls, size=(9, 3))


@torch.inference_mode()
def _probabilities(net: MultiDomainNet, name: str, split: Split) -> Tensor:
    """Of every class (C,), for the one image of the split."""
    view = net.view(name).eval()
    side = view.facts.crop or split.images.shape[1]
    image, _ = next(batches(split.images, split.labels, 1, side, normalization=view.facts.normalization))
    return view(image).softmax(1)[0]
