"""Values and gradients of the window operators, compared with loops over pixels."""

from __future__ import annotations

import pytest
import torch

from derain.models.window_attention import SLOPE, aggregation, pairwise_logits, patchwise_weights, reflect

# (height, width, window): odd and even sides, down to the smallest that the border allows.
GEOMETRY = [(5, 7, 3), (4, 9, 7), (6, 5, 3), (9, 5, 5), (3, 2, 1)]


def reflected(index: int, length: int) -> int:
    """Index of the pixel that reflection padding puts at ``index``."""
    index = -index if index < 0 else index
    return 2 * (length - 1) - index if index >= length else index


def pixels(height, width, window):
    """Yield ``(row, column, [(j, row, column), …])``: each pixel with its neighbors."""
    half = window // 2
    for y in range(height):
        for x in range(width):
            neighbors = []
            for j in range(window * window):
                dy, dx = j // window - half, j % window - half
                neighbors.append((j, reflected(y + dy, height), reflected(x + dx, width)))
            yield y, x, neighbors


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def loop_aggregation(values, weights, geometry):
    out = torch.zeros_like(values)
    for y, x, neighbors in pixels(*geometry):
        for channel in range(values.shape[1]):
            plane = channel % weights.shape[1]
            out[:, channel, y, x] = sum(weights[:, plane, j, y, x] * values[:, channel, v, u] for j, v, u in neighbors)
    return out


def loop_pairwise(a, b, mixing, geometry):
    difference = torch.zeros(*a.shape[:2], geometry[2] ** 2, *a.shape[2:], dtype=a.dtype)
    for y, x, neighbors in pixels(*geometry):
        for j, v, u in neighbors:
            difference[:, :, j, y, x] = a[:, :, y, x] - b[:, :, v, u]
    return torch.einsum("pc,ncjhw->npjhw", mixing, torch.nn.functional.leaky_relu(difference, SLOPE))


def loop_patchwise(a, b, mixing, geometry):
    out = torch.zeros(len(a), len(mixing), *a.shape[2:], dtype=a.dtype)
    for y, x, neighbors in pixels(*geometry):
        keys = torch.stack([b[:, :, v, u] for _, v, u in neighbors], dim=2).flatten(1)
        relation = torch.nn.functional.leaky_relu(torch.cat([a[:, :, y, x], keys], dim=1), SLOPE)
        out[:, :, y, x] = relation @ mixing.t()
    return out


def assert_same(actual, expected, inputs):
    """Compare values, and gradients of a random weighted sum of them."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    scale = noise(*expected.shape, seed=9).detach()
    for a, b in zip(
        torch.autograd.grad((actual * scale).sum(), inputs),
        torch.autograd.grad((expected * scale).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRY)
class TestAgainstLoops:
    @pytest.mark.parametrize("planes", [1, 2])
    def test_aggregation(self, geometry, planes):
        height, width, window = geometry
        values = noise(2, 4, height, width)
        weights = noise(2, planes, window**2, height, width, seed=1)
        actual = aggregation(values, weights, window)
        assert_same(actual, loop_aggregation(values, weights, geometry), (values, weights))
        with torch.no_grad():
            torch.testing.assert_close(aggregation(values, weights, window), actual)

    def test_pairwise_logits(self, geometry):
        a, b, mixing = noise(2, 3, *geometry[:2]), noise(2, 3, *geometry[:2], seed=1), noise(2, 3, seed=2)
        actual = pairwise_logits(a, b, mixing, geometry[2])
        assert_same(actual, loop_pairwise(a, b, mixing, geometry), (a, b, mixing))
        with torch.no_grad():
            torch.testing.assert_close(pairwise_logits(a, b, mixing, geometry[2]), actual)

    def test_patchwise_weights(self, geometry):
        a, b = noise(2, 2, *geometry[:2]), noise(2, 2, *geometry[:2], seed=1)
        mixing = noise(3, 2 * (geometry[2] ** 2 + 1), seed=2)
        actual = patchwise_weights(a, b, mixing, geometry[2])
        assert_same(actual, loop_patchwise(a, b, mixing, geometry), (a, b, mixing))


def test_handwritten_gradients_agree_with_finite_differences():
    query, key, mixing = noise(1, 2, 3, 4), noise(1, 2, 3, 4, seed=1), noise(2, 2, seed=2)
    values, weights = noise(1, 2, 3, 4, seed=3), noise(1, 1, 9, 3, 4, seed=4)
    assert torch.autograd.gradcheck(lambda *t: pairwise_logits(*t, 3), (query, key, mixing))
    assert torch.autograd.gradcheck(lambda *t: aggregation(*t, 3), (values, weights))


def test_impossible_windows_are_rejected():
    with pytest.raises(ValueError, match="must be odd"):
        reflect(torch.rand(1, 1, 9, 9), 4)
    with pytest.raises(ValueError, match="larger than 3 pixels"):
        reflect(torch.rand(1, 1, 3, 9), 7)
    with pytest.raises(ValueError, match="cannot be shared"):
        aggregation(torch.rand(1, 3, 9, 9), torch.rand(1, 2, 9, 9, 9), 3)
