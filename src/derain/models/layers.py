"""Layers shared by several networks, and faster versions of operations that PyTorch runs slowly on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the device of ``x``; no-op on the meta device (operation counting), which has no autocast."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


class Fp32Conv2d(nn.Conv2d):
    """A convolution that stays in full precision under autocast.

    For the first and last layer of a network: they carry the image itself, and the 8 significant bits of
    bfloat16 shift its colors. Measured on a heavy-rain crop with the gated U-Net: bf16 throughout loses
    0.08 dB, bf16 with stem and head in fp32 loses nothing (72 dB PSNR against the fp32 result).
    """

    def forward(self, input: Tensor) -> Tensor:
        with autocast_off(input):
            return super().forward(input.to(self.weight.dtype))


class _Gated(torch.autograd.Function):
    """See :func:`gated`. Writes both gradients into one tensor: half the time of autograd's for bf16 on a CPU."""

    @staticmethod
    def forward(ctx: Any, joint: Tensor) -> Tensor:
        values, gates = joint.chunk(2, dim=1)
        gates = sigmoid(gates)
        ctx.save_for_backward(values, gates)
        ctx.size, ctx.stride = joint.size(), joint.stride()
        return values * gates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        values, gates = ctx.saved_tensors
        grad_joint = torch.empty_strided(ctx.size, ctx.stride, dtype=grad_output.dtype, device=grad_output.device)
        grad_values, grad_gates = grad_joint.chunk(2, dim=1)
        torch.mul(grad_output, gates, out=grad_values)
        torch.mul(grad_values, values, out=grad_gates)
        grad_gates.addcmul_(grad_gates, gates, value=-1)
        return grad_joint


def gated(joint: Tensor) -> Tensor:
    """``values · sigmoid(gates)`` of ``(N, 2C, H, W)``, values first: a gated linear unit (Dauphin et al. 2017)."""
    if torch.is_grad_enabled():
        return _Gated.apply(joint)  # type: ignore[no-untyped-call, no-any-return]
    values, gates = joint.chunk(2, dim=1)
    return sigmoid(gates).mul_(values)


def sigmoid(x: Tensor) -> Tensor:
    """Sigmoid; for bf16 on a CPU computed in fp32, which takes a quarter of the time."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return torch.sigmoid(x)
    return x.float().sigmoid_().to(x.dtype)


def channel_means(x: Tensor) -> Tensor:
    """The mean of each channel, ``(N, C, H, W)`` to ``(N, C, 1, 1)``.

    Autocast would convert bf16 features to fp32 before summing, which takes six times as long.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
        return x.mean(dim=(2, 3), keepdim=True)
    with autocast_off(x):
        rows = x.permute(0, 2, 3, 1).sum(dim=2).float()
        return (rows.mean(dim=1) / x.shape[3])[..., None, None].to(x.dtype)
