r"""Visual prompting: the network stays as it is, and a learned frame is added to its images.

    x_d = x + P        P in R^(C x S x S), zero but for a frame of f pixels around the image

Bahng et al., "Exploring Visual Prompts for Adapting Large-Scale Models", arXiv 2203.17274; the convolutional cousin of
prefix tuning. Theirs starts at random, ours at zero, and so at the base network's function. They freeze everything
else; here the domain has its own BatchNorm and head, as with every other method.
"""

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter
from madlab.errors import MadlabError


class Frame(Adapter):
    """x_d = x + P for images (B, C, S, S): C * (S^2 - (S - 2f)^2) parameters. It adapts images, not filters.

    channels: C. frame: f, in pixels. size: S, in pixels; unless it is given, it is the domain's `crop`, or 32 without
    one. Raises MadlabError for a frame that does not fit and, in forward, for images of another size.
    """

    positions: Tensor

    def __init__(self, channels: int, frame: int, size: int):
        super().__init__()
        self.side = size
        if not isinstance(frame, int) or not 1 <= frame <= self.side // 2:
            raise MadlabError(
                f"A frame of {frame} pixels does not fit: choose a whole number from 1 to {self.side // 2}."
            )
        inside = torch.zeros(self.side, self.side, dtype=torch.bool)
        inside[frame : self.side - frame, frame : self.side - frame] = True
        self.register_buffer("positions", (~inside).flatten().nonzero().flatten(), persistent=False)
        self.pixels = nn.Parameter(torch.zeros(channels, len(self.positions)))

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if height != self.side or width != self.side:
            raise MadlabError(
                f"This prompt is for images of {self.side} x {self.side} pixels, not {width} x {height}: "
                "resize them, or add the domain with another size."
            )
        empty = self.pixels.new_zeros(len(self.pixels), self.side**2)
        return images + empty.index_copy(1, self.positions, self.pixels).view(-1, self.side, self.side)
