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


def _noise(seed: int):
    generator = torch.Generator().manual_seed(seed)

    def layer(key: str, outer: int, inner: int, kernel: int = 1, *, bias: bool = True) -> dict[str, torch.Tensor]:
        weight = torch.randn(outer, inner, kernel, kernel, generator=generator) * (2 / (inner * kernel**2)) ** 0.5
        made = {f"{key}.weight": weight}
        return made | ({f"{key}.bias": torch.randn(outer, generator=generator) * 0.1} if bias else {})

    def norm(key: str, channels: int) -> dict[str, torch.Tensor]:
        return {
            f"{key}.weight": torch.rand(channels, generator=generator) + 0.5,
            f"{key}.bias": torch.randn(channels, generator=generator) * 0.1,
            f"{key}.running_mean": torch.randn(channels, generator=generator) * 0.1,
            f"{key}.running_var": torch.rand(channels, generator=generator) + 0.5,
            f"{key}.num_batches_tracked": torch.tensor(7),
        }

    return layer, norm


def fake_jdnet(
    units: int = 2, attention: str = "pairwise", calibration: bool = True, gates: bool = False, scales: int = 5
) -> dict[str, torch.Tensor]:
    """JDNet as its authors' code saves it under ``net``, without ``module.``; 32 channels, BGR."""
    layer, norm = _noise(2)
    state = layer("enterBlock.0", 32, 3, 3)
    for u in range(units):
        unit = f"derain_net.units.{u}"
        for k in range(scales - 1):
            if gates:
                state |= layer(f"{unit}.scale_attention.{k}.1", 32, 32)
        for k in range(scales - 1):
            for part in ("convert.0", "res.0", "res.2"):
                state |= layer(f"{unit}.res_list.{k}.{part}", 32, 32, 3)
        if attention != "none":
            state |= norm(f"{unit}.san.bn1", 32)
            sam = f"{unit}.san.sam"
            state |= layer(f"{sam}.conv1", 2, 32) | layer(f"{sam}.conv2", 2, 32) | layer(f"{sam}.conv3", 8, 32)
            if attention == "pairwise":
                state |= layer(f"{sam}.conv_w.1", 2, 4, bias=False) | layer(f"{sam}.conv_w.2", 1, 2)
                state |= layer(f"{sam}.conv_p", 2, 2)
            else:
                state |= layer(f"{sam}.conv_w.1", 1, 100, bias=False) | layer(f"{sam}.conv_w.2", 49, 1)
            state |= norm(f"{unit}.san.bn2", 8) | layer(f"{unit}.san.conv", 32, 8)
        state |= layer(f"{unit}.conv11.0", 32, 32 * scales)
        if calibration:
            state |= layer(f"{unit}.scn.conv1_a", 16, 32) | layer(f"{unit}.scn.k1.0", 16, 16, 3)
            state |= layer(f"{unit}.scn.conv1_b", 16, 32)
            for part in ("k2.1", "k3.0", "k4.0"):
                state |= layer(f"{unit}.scn.scconv.{part}", 16, 16, 3)
            state |= layer(f"{unit}.scn.conv3", 32, 32)
    for u in range(units):
        state |= layer(f"derain_net.conv1x1.{u}.0", 32, 32 * (u + 2))
    return state | layer("exitBlock.0", 3, 32, 3)


def fake_sginet(n: int = 32) -> dict[str, torch.Tensor]:
    """SGINet's ``model_best.pt``: FRM and SIM, with the strided convolutions that nothing uses."""
    layer, _ = _noise(3)

    def scaling(key: str, channels: int) -> dict[str, torch.Tensor]:
        narrow = max(1, channels // 16)
        state = layer(f"{key}.context.fc.0", narrow, channels) | layer(f"{key}.context.fc.2", channels, narrow)
        return state | layer(f"{key}.down", channels, channels, 3)

    light = {"encoder_1": (3, 1), "encoder_2": (1, 2), "encoder_3": (2, 2), "encoder_4": (2, 4)}
    light |= {f"middle.{k}": (4, 4) for k in range(4)}
    light |= {"decoder_1": (8, 2), "decoder_2": (2, 2), "decoder_3": (4, 1)}
    state = {}
    for name, (inner, outer) in light.items():
        first = name == "encoder_1"
        state |= layer(f"u_net_light.{name}.conv", outer * n, 3 if first else inner * n, 7 if first else 3)
    state |= layer("u_net_light.decoder_4", 3, n, 3)
    heavy = "u_net_heavy"
    for part, first, scale, gain in (("encoder", 6, "down", 1), ("sementic", 4, "trans", 2)):
        for level in range(5):
            wide, inner = 2**level * n, gain * 2 ** (level - 1) * n if level else first
            state |= layer(f"{heavy}.{part}_{2 * level + 1}.conv", wide, int(inner), 3 if level else 7)
            state |= layer(f"{heavy}.{part}_{2 * level + 2}.conv", wide, wide, 3)
            state |= scaling(f"{heavy}.{scale}_{level + 1}", wide)
    for k in range(4):
        for place in (1, 2):
            state |= layer(f"{heavy}.middle.{k}.layer_{place}.conv", 16 * n, 16 * n, 3)
    for level, (joined, narrow) in enumerate(((32, 16), (24, 8), (12, 6), (8, 2), (3, 0))):
        state |= scaling(f"{heavy}.up_{level + 1}", joined * n)
        first = n if level == 4 else joined * n
        state |= layer(f"{heavy}.decoder_{2 * level + 1}.conv", first, joined * n, 3)
        if level < 4:
            state |= layer(f"{heavy}.decoder_{2 * level + 2}.conv", narrow * n, joined * n, 3)
    return state | layer(f"{heavy}.decoder_10", 3, n, 3)
