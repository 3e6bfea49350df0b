"""The window operators against loops over pixels, in value and in gradient."""

from __future__ import annotations

import pytest
import torch

from derain.models.neighborhood import (
    SLOPE,
    aggregation,
    pairwise_logits,
    patchwise_weights,
    reflect,
    subtraction,
    subtraction2,
)

# height, width, window, stride, dilation: odd and even sides, as small as the border allows, and strides.
GEOMETRY = [(5, 7, 3, 1, 1), (4, 9, 7, 1, 1), (6, 5, 3, 2, 1), (7, 8, 3, 1, 2), (9, 5, 5, 2, 2), (3, 2, 1, 1, 1)]


def mirror(place: int, length: int) -> int:
    place = -place if place < 0 else place
    return 2 * (length - 1) - place if place >= length else place


def pixels(height, width, window, stride, dilation):
    """Every (output row, output column, row, column, [(j, neighbor's row, neighbor's column), …])."""
    half = window // 2
    for p, y in enumerate(range(0, height, stride)):
        for q, x in enumerate(range(0, width, stride)):
            around = []
            for j in range(window * window):
                dy, dx = (j // window - half) * dilation, (j % window - half) * dilation
                around.append((j, mirror(y + dy, height), mirror(x + dx, width)))
            yield p, q, y, x, around


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def outer(height, width, stride):
    return -(-height // stride), -(-width // stride)


def naive_subtraction2(a, b, geometry):
    height, width, window, stride, _ = geometry
    out = torch.zeros(*a.shape[:2], window**2, *outer(height, width, stride), dtype=a.dtype)
    for p, q, y, x, around in pixels(*geometry):
        for j, v, u in around:
            out[:, :, j, p, q] = a[:, :, y, x] - b[:, :, v, u]
    return out


def naive_aggregation(values, weights, geometry):
    height, width, _, stride, _ = geometry
    out = torch.zeros(*values.shape[:2], *outer(height, width, stride), dtype=values.dtype)
    for p, q, _, _, around in pixels(*geometry):
        for channel in range(values.shape[1]):
            plane = channel % weights.shape[1]
            out[:, channel, p, q] = sum(weights[:, plane, j, p, q] * values[:, channel, v, u] for j, v, u in around)
    return out


def naive_pairwise(a, b, mixing, geometry):
    relation = torch.nn.functional.leaky_relu(naive_subtraction2(a, b, geometry), SLOPE)
    return torch.einsum("pc,ncjhw->npjhw", mixing, relation)


def naive_patchwise(a, b, mixing, geometry):
    height, width, _, stride, _ = geometry
    out = torch.zeros(len(a), len(mixing), *outer(height, width, stride), dtype=a.dtype)
    for p, q, y, x, around in pixels(*geometry):
        seen = torch.stack([b[:, :, v, u] for _, v, u in around], dim=2).flatten(1)
        relation = torch.nn.functional.leaky_relu(torch.cat([a[:, :, y, x], seen], dim=1), SLOPE)
        out[:, :, p, q] = relation @ mixing.t()
    return out


def same(found, expected, inputs):
    """Equal values, and equal gradients of a random weighting of them."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    scale = noise(*expected.shape, seed=9).detach()
    for a, b in zip(
        torch.autograd.grad((found * scale).sum(), inputs),
        torch.autograd.grad((expected * scale).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRY)
class TestAgainstLoops:
    def test_subtraction(self, geometry):
        a, b = (noise(2, 2, *geometry[:2], seed=s) for s in (0, 1))
        same(subtraction2(a, b, *geometry[2:]), naive_subtraction2(a, b, geometry), (a, b))
        same(subtraction(a, *geometry[2:]), naive_subtraction2(a, a, geometry), (a,))

    @pytest.mark.parametrize("planes", [1, 2])
    def test_aggregation(self, geometry, planes):
        height, width, window, stride, _ = geometry
        values = noise(2, 4, height, width)
        weights = noise(2, planes, window**2, *outer(height, width, stride), seed=1)
        found = aggregation(values, weights, *geometry[2:])
        same(found, naive_aggregation(values, weights, geometry), (values, weights))
        with torch.no_grad():
            torch.testing.assert_close(aggregation(values, weights, *geometry[2:]), found)

    def test_pairwise_logits(self, geometry):
        a, b, mixing = noise(2, 3, *geometry[:2]), noise(2, 3, *geometry[:2], seed=1), noise(2, 3, seed=2)
        found = pairwise_logits(a, b, mixing, *geometry[2:])
        same(found, naive_pairwise(a, b, mixing, geometry), (a, b, mixing))
        with torch.no_grad():
            torch.testing.assert_close(pairwise_logits(a, b, mixing, *geometry[2:]), found)

    def test_patchwise_weights(self, geometry):
        a, b = noise(2, 2, *geometry[:2]), noise(2, 2, *geometry[:2], seed=1)
        mixing = noise(3, 2 * (geometry[2] ** 2 + 1), seed=2)
        same(patchwise_weights(a, b, mixing, *geometry[2:]), naive_patchwise(a, b, mixing, geometry), (a, b, mixing))


def test_written_gradients_agree_with_finite_differences():
    query, key, mixing = noise(1, 2, 3, 4), noise(1, 2, 3, 4, seed=1), noise(2, 2, seed=2)
    values, weights = noise(1, 2, 3, 4, seed=3), noise(1, 1, 9, 3, 4, seed=4)
    assert torch.autograd.gradcheck(lambda *t: pairwise_logits(*t, 3), (query, key, mixing))
    assert torch.autograd.gradcheck(lambda *t: aggregation(*t, 3), (values, weights))


def test_impossible_windows_are_told():
    with pytest.raises(ValueError, match="must be odd"):
        reflect(torch.rand(1, 1, 9, 9), 4)
    with pytest.raises(ValueError, match="larger than 6 pixels"):
        reflect(torch.rand(1, 1, 6, 9), 7, dilation=2)
    with pytest.raises(ValueError, match="cannot be shared"):
        aggregation(torch.rand(1, 3, 9, 9), torch.rand(1, 2, 9, 9, 9), 3)
