"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) for convolutional networks.

torch.optim.Muon only takes matrices, has no relative step, and needs torch 2.9; networks here have 4-D kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from derain.runtime.torch import fast_bf16

# Coefficients of the quintic iteration, which brings singular values close to 1 in five steps.
_A, _B, _C = 3.4445, -4.7750, 2.0315
# Rows orthogonalized at once; larger kernels are split (values and gates of a gated block, for example).
_MAX_ROWS = 192


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about 0.7 and 1.2.

    Args:
        matrix: ``(rows, columns)``.
        steps: Newton–Schulz iterations.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    if fast_bf16(matrix.device.type):
        x = x.bfloat16()  # as Jordan does: the result is no more exact in fp32
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result.to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix updates are orthogonalized; kernels count as ``(out, in·k·k)`` matrices.

    The update has the size of Adam's (0.2·√max(rows, columns) after Liu et al., 2025), so learning
    rates of Adam can be used. Parameters of the second group are updated by AdamW.

    With ``relative``, the step of each kernel is that share of the kernel's norm, which stays constant: the
    kernel is only rotated. Steps of the same size for all kernels disturb small ones and let large ones grow,
    by which a network without normalization diverged (docs/notes/diary.md). Normalizing weights after each
    step is from Karras et al., CVPR 2024 (EDM2).

    Args:
        groups: two parameter groups, the first with ``"muon": True``; see :func:`muon_groups`.
        lr: learning rate.
        betas: of AdamW.
        weight_decay: decoupled; only of AdamW if ``relative`` is set.
        momentum: of Muon, in Nesterov's form.
        relative: learning rate of the first group as a share of each kernel's norm; by default, ``lr``.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        relative: float | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "momentum": momentum}
        defaults |= {"muon": False, "relative": False}
        super().__init__(groups, defaults)
        if relative is not None:
            for group in self.param_groups:
                if group["muon"]:
                    group.update(lr=relative, relative=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._muon_update(parameter, group) if group["muon"] else self._adam_update(parameter, group)
                if group["relative"]:
                    _rotate(parameter, update, group["lr"])
                else:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        return loss

    def _muon_update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)  # type: ignore[union-attr]
        blocks = [orthogonalized(block) * max(block.shape) ** 0.5 for block in ahead.chunk(_blocks(ahead))]
        return 0.2 * torch.cat(blocks).view_as(parameter)

    def _adam_update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        update: Tensor = mean / (square.sqrt() + 1e-8)
        return update


def _blocks(matrix: Tensor) -> int:
    """Number of parts to split the rows into: the cost grows with the cube of the shorter side."""
    rows, columns = matrix.shape
    return -(-rows // _MAX_ROWS) if columns > _MAX_ROWS else 1


def _rotate(kernel: Tensor, update: Tensor, share: float) -> None:
    """Move a kernel against the update by a share of its norm, then restore its norm."""
    norm = kernel.norm()
    kernel.sub_(update * (share * norm / update.norm().clamp(min=1e-12)))
    kernel.mul_(norm / kernel.norm().clamp(min=1e-12))


def muon_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Parameters for :class:`Muon`: hidden kernels and matrices, and the rest.

    Kernels that read or write images (3 or fewer channels on a side, or rainy and derained together) and
    the narrow 1×1 kernels of attention count as the rest: their updates should not be orthogonal.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in network.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= 16
            at_image = parameter.ndim == 4 and (parameter.shape[0] <= 3 or parameter.shape[1] <= 6)
            (hidden if matrix and not at_image else rest).append(parameter)
    return [{"params": hidden, "muon": True}, {"params": rest, "muon": False}]
