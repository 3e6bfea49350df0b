"""Checkpoints in the official layouts, with random values, for tests."""

from __future__ import annotations

import torch

# name -> gates of the recurrent cell, number of residual blocks, input channels, attention
VARIANTS: dict[str, tuple[str, int, int, bool]] = {
    "sapnet": ("ifgo", 5, 6, True),
    "prenet": ("ifgo", 5, 6, False),
    "prenet_r": ("ifgo", 1, 6, False),
    "prn": ("", 5, 6, False),
    "prn_r": ("", 1, 6, False),
    "prenet_gru": ("zbg", 5, 6, False),
    "prenet_x": ("ifgo", 5, 3, False),
}


def fake_official(variant: str) -> dict[str, torch.Tensor]:
    """A state dictionary as the authors' code saves it, without ``module.``."""
    gates, blocks, inputs, attention = VARIANTS[variant]
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.15

    state = {"conv0.0.weight": noise(32, inputs, 3, 3), "conv0.0.bias": noise(32)}
    for gate in gates:
        state |= {f"conv_{gate}.0.weight": noise(32, 64, 3, 3), f"conv_{gate}.0.bias": noise(32)}
    for block in range(1, blocks + 1):
        for place in (0, 3) if attention else (0, 2):
            key = f"res_conv{block}.{place}"
            state |= {f"{key}.weight": noise(32, 32, 3, 3), f"{key}.bias": noise(32)}
            if attention:
                key = f"res_conv{block}.{place + 1}"
                state |= {f"{key}.conv_du.0.weight": noise(2, 32, 1, 1), f"{key}.conv_du.2.weight": noise(32, 2, 1, 1)}
                state |= {f"{key}.conv_1_1.weight": noise(32, 32, 1, 1)}
    return state | {"conv.0.weight": noise(3, 32, 3, 3), "conv.0.bias": noise(3)}
