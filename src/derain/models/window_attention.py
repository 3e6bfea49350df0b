"""Self-attention over a small window: the operators of SAN in plain PyTorch.

Zhao, Jia and Koltun, "Exploring Self-attention for Image Recognition", CVPR 2020 (arXiv 2004.13621), on which
JDNet is based. Pixel i attends to the K×K pixels j around it, in row-major order, with reflection padding. The
papers' code implements these operators as CUDA kernels and does not run on a CPU. Here a window is K² shifted
views of one padded tensor:

| operator | value at i, j | memory per output pixel |
|---|---|---|
| :func:`aggregation` | Σ_j w(i, j) · v(j) | one value per channel, no copies of v |
| :func:`pairwise_logits` | M · lrelu(a(i) − b(j)) | K² values per row of M, not per channel of a |
| :func:`patchwise_weights` | A · concat[lrelu(a(i)), lrelu(b(j)) for all j] | that of a convolution |

The first two are performance-critical and have a handwritten backward pass, which recomputes the differences
instead of storing K² copies of them. ``tests/models/test_window_attention.py`` compares values and gradients of
all operators with loops over pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLOPE = 0.2  # negative slope of JDNet's leaky ReLU


def reflect(x: Tensor, window: int) -> Tensor:
    """Pad ``(N, C, H, W)`` by reflection so that every pixel has a full window.

    Raises:
        ValueError: the window is even, or the image not larger than half of it.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window must be odd, not {window}")
    border = window // 2
    if min(x.shape[-2:]) <= border:
        raise ValueError(f"a window of {window} requires images larger than {border} pixels")
    padded = F.pad(x, (border, border, border, border), mode="reflect") if border else x
    return padded.contiguous()  # channels-last would copy each shifted view


def _shifts(padded: Tensor, window: int) -> Iterator[Tensor]:
    """The K² views of a padded tensor: the j-th holds each pixel's j-th neighbor."""
    # Negative ends are constants; positive ones would depend on the size and be computed in an exported graph.
    slices = [slice(start, start - window + 1 or None) for start in range(window)]
    for rows in slices:
        for columns in slices:
            yield padded[..., rows, columns]


def _neighbors(padded: Tensor, window: int) -> Tensor:
    """All K² views as one tensor, ``(N, K², C, H, W)``: K² times the memory, but few nodes in an exported graph."""
    views = list(_shifts(padded, window))
    return torch.cat(views, dim=1).view(len(padded), len(views), *views[0].shape[1:])


class _Aggregation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor, window: int) -> Tensor:
        ctx.save_for_backward(padded, weights)
        ctx.window = window
        return _aggregate(padded, weights, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        padded, weights = ctx.saved_tensors
        grad_padded, grad_weights = torch.zeros_like(padded), torch.empty_like(weights)
        grad_planes = _by_plane(grad_output, weights.shape[1])
        shifts = zip(_shifts(padded, ctx.window), _shifts(grad_padded, ctx.window), strict=True)
        for j, (neighbor, grad_neighbor) in enumerate(shifts):
            grad_weights[:, :, j] = (_by_plane(neighbor, weights.shape[1]) * grad_planes).sum(1)
            grad_neighbor.add_((weights[:, None, :, j] * grad_planes).flatten(1, 2))
        return grad_padded, grad_weights, None


def _by_plane(x: Tensor, planes: int) -> Tensor:
    """Reshape ``(N, C, …)`` to ``(N, C / planes, planes, …)``: channel c belongs to weight plane c mod planes."""
    return x.reshape(len(x), x.shape[1] // planes, planes, *x.shape[2:])


def _aggregate(padded: Tensor, weights: Tensor, window: int) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        neighbors = _neighbors(padded, window)
        planes = neighbors.view(*neighbors.shape[:2], -1, weights.shape[1], *neighbors.shape[3:])
        return (planes * weights.transpose(1, 2)[:, :, None]).sum(1).flatten(1, 2)
    total: Tensor | None = None
    for j, neighbor in enumerate(_shifts(padded, window)):
        weight = weights[:, None, :, j]
        planes = _by_plane(neighbor, weights.shape[1])
        total = weight * planes if total is None else total.addcmul_(weight, planes)
    assert total is not None
    return total.flatten(1, 2)


def aggregation(values: Tensor, weights: Tensor, window: int) -> Tensor:
    """Weighted sum of the neighbors of each pixel: ``Σ_j weights[c mod P](i, j) · values[c](j)``.

    Args:
        values: ``(N, C, H, W)``.
        weights: ``(N, P, K², H, W)``; P must divide C, and each plane is shared by C/P channels.
        window: K, odd.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: P does not divide C; see also :func:`reflect`.
    """
    if values.shape[1] % weights.shape[1]:
        raise ValueError(f"{weights.shape[1]} weight planes cannot be shared by {values.shape[1]} channels")
    padded = reflect(values, window)
    if torch.is_grad_enabled() and (values.requires_grad or weights.requires_grad):
        result: Tensor = _Aggregation.apply(padded, weights, window)  # type: ignore[no-untyped-call]
        return result
    return _aggregate(padded, weights, window)


class _PairwiseLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, padded: Tensor, mixing: Tensor, window: int) -> Tensor:
        ctx.save_for_backward(query, padded, mixing)
        ctx.window = window
        return _logits(query, padded, mixing, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, padded, mixing = ctx.saved_tensors
        grad_query, grad_padded, grad_mixing = (torch.zeros_like(t) for t in (query, padded, mixing))
        shifts = zip(_shifts(padded, ctx.window), _shifts(grad_padded, ctx.window), strict=True)
        for j, (neighbor, grad_neighbor) in enumerate(shifts):
            difference = query - neighbor
            grad_logits = grad_output[:, :, j].flatten(2)
            grad_mixing += torch.einsum("npx,ncx->pc", grad_logits, F.leaky_relu(difference, SLOPE).flatten(2))
            grad_relation = (mixing.t() @ grad_logits).view_as(difference)
            grad_difference = torch.where(difference > 0, grad_relation, SLOPE * grad_relation)
            grad_query += grad_difference
            grad_neighbor.sub_(grad_difference)
        return grad_query, grad_padded, grad_mixing, None


def _logits(query: Tensor, padded: Tensor, mixing: Tensor, window: int) -> Tensor:
    batch, _, height, width = query.shape
    if torch.onnx.is_in_onnx_export():
        relation = F.leaky_relu(query[:, None] - _neighbors(padded, window), SLOPE)
        mixed = mixing @ relation.flatten(3)
        return mixed.view(*mixed.shape[:3], height, width).transpose(1, 2)
    logits = query.new_empty(batch, mixing.shape[0], window * window, height, width)
    for j, neighbor in enumerate(_shifts(padded, window)):
        relation = F.leaky_relu_(query - neighbor, SLOPE)
        logits[:, :, j] = (mixing @ relation.flatten(2)).view(batch, -1, height, width)
    return logits


def pairwise_logits(query: Tensor, key: Tensor, mixing: Tensor, window: int) -> Tensor:
    """``mixing @ leaky_relu(query(i) − key(j))``: SAN's pairwise weights before the softmax, subtraction relation.

    Args:
        query: ``(N, C, H, W)``.
        key: the same shape.
        mixing: ``(P, C)``, maps a relation to logits; the product of consecutive linear layers.
        window: K, odd.

    Returns:
        ``(N, P, K², H, W)``.

    Raises:
        ValueError: see :func:`reflect`.
    """
    center = query.contiguous()
    padded = reflect(key, window)
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or mixing.requires_grad):
        result: Tensor = _PairwiseLogits.apply(center, padded, mixing, window)  # type: ignore[no-untyped-call]
        return result
    return _logits(center, padded, mixing, window)


def patchwise_weights(query: Tensor, key: Tensor, mixing: Tensor, window: int) -> Tensor:
    """``mixing @ leaky_relu(concat[query(i), key(j) for all j])``: SAN's patchwise weights.

    The leaky ReLU is elementwise, so what the papers write as unfolding is a convolution of the key.

    Args:
        query: ``(N, C, H, W)``.
        key: the same shape.
        mixing: ``(P, C + C · K²)``: first the channels of the query, then for each channel of the key its K²
            neighbors.
        window: K, odd.

    Returns:
        ``(N, P, H, W)``.

    Raises:
        ValueError: see :func:`reflect`.
    """
    channels = query.shape[1]
    from_query = F.conv2d(F.leaky_relu(query, SLOPE), mixing[:, :channels, None, None])
    kernel = mixing[:, channels:].reshape(-1, channels, window, window)
    return from_query + F.conv2d(F.leaky_relu(reflect(key, window), SLOPE), kernel)
