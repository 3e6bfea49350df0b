"""Self-attention over a small window: the operators of SAN, in plain PyTorch.

Zhao, Jia and Koltun, "Exploring Self-attention for Image Recognition", CVPR 2020 (arXiv 2004.13621),
which JDNet builds on. Pixel i attends to the K×K pixels j around it, written row by row; pictures are
mirrored at their border without repeating it. The papers' code has CUDA kernels for these operators,
so that it runs on no CPU. Here a window is K² shifted views of one padded tensor:

| operator | value at i, j | memory for each output pixel |
|---|---|---|
| :func:`subtraction` | x(i) − x(j) | K² numbers for each channel, its result |
| :func:`subtraction2` | a(i) − b(j) | the same |
| :func:`aggregation` | Σ_j w(i, j) · v(j) | one number for each channel, no copies of v |
| :func:`pairwise_logits` | M · lrelu(a(i) − b(j)) | K² for each row of M, not for each channel of a |
| :func:`patchwise_weights` | A · concat[lrelu(a(i)), lrelu(b(j)) for all j] | a convolution's |

The two that networks run thousands of times have their backward written out: it makes the differences
again instead of keeping K² copies of them. ``tests/test_neighborhood.py`` holds all of them against
loops over pixels, in value and gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLOPE = 0.2  # of JDNet's leaky relu


def reflect(x: Tensor, window: int, dilation: int = 1) -> Tensor:
    """``(N, C, H, W)`` mirrored so that every pixel has a full window.

    Raises:
        ValueError: an even window, or a picture not larger than the border to be mirrored.
    """
    if window < 1 or window % 2 == 0 or dilation < 1:
        raise ValueError(f"a window must be odd and its dilation at least 1, not {window} and {dilation}")
    border = dilation * (window // 2)
    if min(x.shape[-2:]) <= border:
        raise ValueError(f"a window of {window} at dilation {dilation} needs pictures larger than {border} pixels")
    padded = F.pad(x, (border, border, border, border), mode="reflect") if border else x
    return padded.contiguous()  # in channels_last each shifted view would be copied


def _shifts(padded: Tensor, window: int, stride: int, dilation: int) -> Iterator[Tensor]:
    """The K² views of a padded tensor: the j-th holds each pixel's j-th neighbor."""
    # Ends are counted from the far border: constants, where an exported graph would have to compute them.
    reach = dilation * (window - 1)
    ways = [slice(start, start - reach or None, stride) for start in range(0, reach + 1, dilation)]
    for down in ways:
        for across in ways:
            yield padded[..., down, across]


def _neighbors(padded: Tensor, window: int, stride: int, dilation: int) -> Tensor:
    """All K² views side by side, ``(N, K², C, H, W)``: many times the memory, and few nodes in an exported graph."""
    views = list(_shifts(padded, window, stride, dilation))
    return torch.cat(views, dim=1).view(len(padded), len(views), *views[0].shape[1:])


def subtraction2(query: Tensor, key: Tensor, window: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """``query(i) − key(j)`` for every pixel i and its neighbors j.

    Args:
        query: ``(N, C, H, W)``.
        key: the same shape.
        window: K, odd.
        stride: only every ``stride``-th pixel is an i.
        dilation: step between neighbors.

    Returns:
        ``(N, C, K², ⌈H/stride⌉, ⌈W/stride⌉)``, neighbors row by row.

    Raises:
        ValueError: see :func:`reflect`.
    """
    center = query[..., ::stride, ::stride]
    return torch.stack([center - near for near in _shifts(reflect(key, window, dilation), window, stride, dilation)], 2)


def subtraction(x: Tensor, window: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """``x(i) − x(j)``; see :func:`subtraction2`."""
    return subtraction2(x, x, window, stride, dilation)


class _Aggregation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor, window: int, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(padded, weights)
        ctx.geometry = window, stride, dilation
        return _aggregate(padded, weights, window, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        padded, weights = ctx.saved_tensors
        to_values, to_weights = torch.zeros_like(padded), torch.empty_like(weights)
        split = _by_plane(gradient, weights.shape[1])
        places = zip(_shifts(padded, *ctx.geometry), _shifts(to_values, *ctx.geometry), strict=True)
        for j, (near, to_near) in enumerate(places):
            to_weights[:, :, j] = (_by_plane(near, weights.shape[1]) * split).sum(1)
            to_near.add_((weights[:, None, :, j] * split).flatten(1, 2))
        return to_values, to_weights, None, None, None


def _by_plane(x: Tensor, planes: int) -> Tensor:
    """``(N, C, …)`` to ``(N, C / planes, planes, …)``: channel c meets weight plane c mod planes."""
    return x.reshape(len(x), x.shape[1] // planes, planes, *x.shape[2:])


def _aggregate(padded: Tensor, weights: Tensor, window: int, stride: int, dilation: int) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        near = _neighbors(padded, window, stride, dilation)
        split = near.view(*near.shape[:2], -1, weights.shape[1], *near.shape[3:])
        return (split * weights.transpose(1, 2)[:, :, None]).sum(1).flatten(1, 2)
    total: Tensor | None = None
    for j, near in enumerate(_shifts(padded, window, stride, dilation)):
        weight = weights[:, None, :, j]
        split = _by_plane(near, weights.shape[1])
        total = weight * split if total is None else total.addcmul_(weight, split)
    assert total is not None
    return total.flatten(1, 2)


def aggregation(values: Tensor, weights: Tensor, window: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """Weighted sum of every pixel's neighbors: ``Σ_j weights[c mod P](i, j) · values[c](j)``.

    Args:
        values: ``(N, C, H, W)``.
        weights: ``(N, P, K², ⌈H/stride⌉, ⌈W/stride⌉)``, P planes that divide C, each shared by C/P channels.
        window: K, odd.
        stride: only every ``stride``-th pixel is an i.
        dilation: step between neighbors.

    Returns:
        ``(N, C, ⌈H/stride⌉, ⌈W/stride⌉)``.

    Raises:
        ValueError: planes that do not divide the channels; see also :func:`reflect`.
    """
    if values.shape[1] % weights.shape[1]:
        raise ValueError(f"{weights.shape[1]} weight planes cannot be shared by {values.shape[1]} channels")
    padded = reflect(values, window, dilation)
    if torch.is_grad_enabled() and (values.requires_grad or weights.requires_grad):
        result: Tensor = _Aggregation.apply(padded, weights, window, stride, dilation)  # type: ignore[no-untyped-call]
        return result
    return _aggregate(padded, weights, window, stride, dilation)


class _PairwiseLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, padded: Tensor, mixing: Tensor, window: int, stride: int, dilation: int
    ) -> Tensor:
        ctx.save_for_backward(query, padded, mixing)
        ctx.geometry = window, stride, dilation
        return _logits(query, padded, mixing, window, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, padded, mixing = ctx.saved_tensors
        to_query, to_key, to_mixing = (torch.zeros_like(t) for t in (query, padded, mixing))
        places = zip(_shifts(padded, *ctx.geometry), _shifts(to_key, *ctx.geometry), strict=True)
        for j, (near, to_near) in enumerate(places):
            difference = query - near
            along = gradient[:, :, j].flatten(2)
            to_mixing += torch.einsum("npx,ncx->pc", along, F.leaky_relu(difference, SLOPE).flatten(2))
            to_relation = (mixing.t() @ along).view_as(difference)
            to_difference = torch.where(difference > 0, to_relation, SLOPE * to_relation)
            to_query += to_difference
            to_near.sub_(to_difference)
        return to_query, to_key, to_mixing, None, None, None


def _logits(query: Tensor, padded: Tensor, mixing: Tensor, window: int, stride: int, dilation: int) -> Tensor:
    batch, _, height, width = query.shape
    if torch.onnx.is_in_onnx_export():
        difference = F.leaky_relu(query[:, None] - _neighbors(padded, window, stride, dilation), SLOPE)
        mixed = mixing @ difference.flatten(3)
        return mixed.view(*mixed.shape[:3], height, width).transpose(1, 2)
    found = query.new_empty(batch, mixing.shape[0], window * window, height, width)
    for j, near in enumerate(_shifts(padded, window, stride, dilation)):
        difference = F.leaky_relu_(query - near, SLOPE)
        found[:, :, j] = (mixing @ difference.flatten(2)).view(batch, -1, height, width)
    return found


def pairwise_logits(
    query: Tensor, key: Tensor, mixing: Tensor, window: int, stride: int = 1, dilation: int = 1
) -> Tensor:
    """``mixing @ leaky_relu(query(i) − key(j))``, before a softmax: SAN's pairwise weights, subtraction relation.

    Args:
        query: ``(N, C, H, W)``.
        key: the same shape.
        mixing: ``(P, C)``, what turns a relation into weights; consecutive linear layers are one matrix.
        window: K, odd.
        stride: only every ``stride``-th pixel is an i.
        dilation: step between neighbors.

    Returns:
        ``(N, P, K², ⌈H/stride⌉, ⌈W/stride⌉)``.

    Raises:
        ValueError: see :func:`reflect`.
    """
    center = query[..., ::stride, ::stride].contiguous()
    padded = reflect(key, window, dilation)
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or mixing.requires_grad):
        result: Tensor = _PairwiseLogits.apply(center, padded, mixing, window, stride, dilation)  # type: ignore[no-untyped-call]
        return result
    return _logits(center, padded, mixing, window, stride, dilation)


def patchwise_weights(
    query: Tensor, key: Tensor, mixing: Tensor, window: int, stride: int = 1, dilation: int = 1
) -> Tensor:
    """``mixing @ leaky_relu(concat[query(i), key(j) for all j])``: SAN's patchwise weights.

    The relu acts on each number alone, so what the papers write as unfolding is a convolution of the key.

    Args:
        query: ``(N, C, H, W)``.
        key: the same shape.
        mixing: ``(P, C + C · K²)``: first the query's channels, then the key's, channel by channel, each
            with its K² neighbors.
        window: K, odd.
        stride: only every ``stride``-th pixel is an i.
        dilation: step between neighbors.

    Returns:
        ``(N, P, ⌈H/stride⌉, ⌈W/stride⌉)``.

    Raises:
        ValueError: see :func:`reflect`.
    """
    channels = query.shape[1]
    own = F.conv2d(F.leaky_relu(query[..., ::stride, ::stride], SLOPE), mixing[:, :channels, None, None])
    kernel = mixing[:, channels:].reshape(-1, channels, window, window)
    near = F.leaky_relu(reflect(key, window, dilation), SLOPE)
    return own + F.conv2d(near, kernel, stride=stride, dilation=dilation)
