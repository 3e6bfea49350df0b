"""Baselines of the benchmarks: modules as in their authors' code, on the same parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from derain.models.jdnet import JDNet, ScaleAggregation, WindowAttention
from derain.models.prenet import ResidualBlock
from derain.models.progressive import ConvLSTM
from derain.models.sapnet import ChannelResidualAttention, DilatedAttentionBlock
from derain.models.window_attention import SLOPE


class PlainLSTM(ConvLSTM):
    """The cell as published: one convolution per gate, starting from a zero state."""

    def forward(self, x, state):
        hidden, cell = state if state is not None else (torch.zeros_like(x), torch.zeros_like(x))
        joined = torch.cat([x, hidden], dim=1)
        keep, write = torch.sigmoid(self.forget_gate(joined)), torch.sigmoid(self.input_gate(joined))
        cell = keep * cell + write * torch.tanh(self.candidate(joined))
        return torch.sigmoid(self.output_gate(joined)) * torch.tanh(cell), cell


class PlainBlock(nn.Module):
    """PReNet's and SAPNet's residual block: a new tensor in each step."""

    def forward(self, x):
        return torch.relu(x + self.body(x))


class PlainChannelAttention(nn.Module):
    """SAPNet's channel attention, not in place either."""

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.conv_du(pooled) + self.conv_1_1(pooled))


class PlainAttention(nn.Module):
    """JDNet's pairwise window attention with unfolded windows; the authors' kernels are CUDA only."""

    def forward(self, x):
        count, _, height, width = x.shape
        y, x_place = (torch.linspace(-1, 1, side) for side in (height, width))
        grid = torch.stack(torch.meshgrid(y, x_place, indexing="ij")[::-1])[None]
        place = self.position(grid).expand(count, -1, -1, -1)
        query, key, value = self.query(x), self.key(x), self.value(x)
        relation = torch.cat([self._differences(query, key), self._differences(place, place)], 1)
        weights = self.weigh(self.relate(F.leaky_relu(relation, SLOPE))).softmax(2)
        values = self._unfold(value).view(count, -1, weights.shape[1], *weights.shape[2:])
        return (weights[:, None] * values).sum(3).view(count, -1, height, width)

    def _unfold(self, x):
        border = self.window // 2
        padded = F.pad(x, (border,) * 4, mode="reflect")
        return F.unfold(padded, self.window).view(*x.shape[:2], self.window**2, -1)

    def _differences(self, query, key):
        return query.flatten(2)[:, :, None] - self._unfold(key)


class PlainPyramid(nn.Module):
    """JDNet's scale aggregation: every level upsampled and concatenated, then fused."""

    def forward(self, x):
        levels, level = [x], x
        for down in self.down:
            level = down(level)
            levels.append(F.interpolate(level, x.shape[-2:]))
        return x + F.leaky_relu(self.fusion(torch.cat(levels, 1)), SLOPE)


class PlainJDNet(JDNet):
    """JDNet's dense chain, concatenated again at every unit."""

    def rain(self, rainy):
        features = [F.leaky_relu(self.enter(rainy), SLOPE)]
        out = features[0]
        for unit, fusion in zip(self.units, self.fusions, strict=True):
            features.append(unit(out))
            out = F.leaky_relu(fusion(torch.cat(features, 1)), SLOPE)
        return F.leaky_relu(self.exit(out), SLOPE)


_PLAIN = {
    ConvLSTM: PlainLSTM,
    ResidualBlock: PlainBlock,
    DilatedAttentionBlock: PlainBlock,
    ChannelResidualAttention: PlainChannelAttention,
    WindowAttention: PlainAttention,
    ScaleAggregation: PlainPyramid,
    JDNet: PlainJDNet,
}


def as_published(network: nn.Module) -> nn.Module:
    """Replace a network's modules by the plain ones, in place; the parameters are kept."""
    for module in network.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
        if hasattr(module, "inplace"):
            module.inplace = False
    return network
