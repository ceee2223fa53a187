"""A view attention outside mvdiff: this class, its YAML in conf/attention/, and pyproject.toml.

pip install ./examples/add_an_attention
mvdiff train data=… "plugins=[view_mean]" attention=view-mean
"""

import torch
from torch import nn

from mvdiff.attention import ATTENTION, ViewAttention


@ATTENTION.register("view-mean")
class ViewMean(ViewAttention):
    """Every view sees the mean of all views."""

    needs = frozenset({"all_views"})  # views must not be split into chunks

    def __init__(self, slot, hidden):
        super().__init__()
        self.read = nn.Conv2d(slot.channels, hidden, 1)
        self.write = nn.Conv2d(hidden, slot.channels, 1)
        nn.init.zeros_(self.write.weight)  # starts as the identity
        nn.init.zeros_(self.write.bias)

    def forward(self, x, scene):  # x: (batch, view, channel, height, width)
        mean = self.read(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)
        return x + self.write(torch.relu(mean))[:, None]
