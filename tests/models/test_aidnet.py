"""AIDNet and BRN: agreement with a direct implementation on an official state dictionary, and its import."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.models.aidnet import AIDNet
from derain.models.prenet import PReNet
from derain.weights.official import convert_official, import_checkpoint, recognize


def official(attention: str) -> dict[str, torch.Tensor]:
    """A state dictionary as the authors' code saves it, without ``module.``, unused blocks included."""
    generator = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {}
    for suffix, inputs in (("", 9), ("_r", 6)):
        shapes |= {f"conv0{suffix}.0": (32, inputs, 3, 3), f"conv{suffix}.0": (3, 32, 3, 3)}
        shapes |= {f"conv_{gate}{suffix}.0": (32, 96, 3, 3) for gate in "ifgo"}
        shapes |= {f"res_conv{n}{suffix}.{place}": (32, 32, 3, 3) for n in range(1, 6) for place in (0, 2)}
    if attention == "se":
        shapes |= {"seblock.fc.0": (16, 32), "seblock.fc.2": (32, 16)}
    if attention == "cbam":
        shapes |= {"cbam_module.ChannelGate.mlp.1": (2, 32), "cbam_module.ChannelGate.mlp.3": (32, 2)}
    state = {}
    for layer, shape in shapes.items():
        scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5
        state[f"{layer}.weight"] = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        state[f"{layer}.bias"] = torch.randn(shape[0], generator=generator, dtype=torch.float64) * 0.2
    if attention == "cbam":
        gate = "cbam_module.SpatialGate.spatial"
        state[f"{gate}.conv.weight"] = torch.randn(1, 2, 7, 7, generator=generator, dtype=torch.float64) * 0.2
        for name, value in {"weight": 0.9, "bias": 0.3, "running_mean": 0.1, "running_var": 0.4}.items():
            state[f"{gate}.bn.{name}"] = torch.tensor([value], dtype=torch.float64)
        state[f"{gate}.bn.num_batches_tracked"] = torch.tensor(5)
    return state


def direct(state: dict[str, torch.Tensor], rainy: torch.Tensor, iterations: int) -> torch.Tensor:
    """The network written out on the official names, one operation after the other."""

    def conv(key: str, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)

    def linear(key: str, x: torch.Tensor) -> torch.Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def residual(key: str, x: torch.Tensor) -> torch.Tensor:
        return (x + conv(f"{key}.2", conv(f"{key}.0", x).relu()).relu()).relu()

    def lstm(suffix: str, joined: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i, f, g, o = (conv(f"conv_{gate}{suffix}.0", joined) for gate in "ifgo")
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    def attend(x: torch.Tensor) -> torch.Tensor:
        means = x.flatten(2).mean(2)
        if "seblock.fc.0.weight" in state:
            return x * linear("seblock.fc.2", linear("seblock.fc.0", means).relu()).sigmoid()[:, :, None, None]
        if "cbam_module.ChannelGate.mlp.1.weight" not in state:
            return torch.zeros_like(x)
        mlp, gate = "cbam_module.ChannelGate.mlp", "cbam_module.SpatialGate.spatial"
        both = [linear(f"{mlp}.3", linear(f"{mlp}.1", p).relu()) for p in (means, x.flatten(2).max(2).values)]
        x = x * (both[0] + both[1]).sigmoid()[:, :, None, None]
        pooled = torch.stack([x.max(1).values, x.mean(1)], dim=1)
        z = F.conv2d(pooled, state[f"{gate}.conv.weight"], padding=3)
        z = (z - state[f"{gate}.bn.running_mean"]) / (state[f"{gate}.bn.running_var"] + 1e-5).sqrt()
        return x * (z * state[f"{gate}.bn.weight"] + state[f"{gate}.bn.bias"]).sigmoid()

    image = rain = rainy
    h = c = h_r = c_r = rainy.new_zeros(len(rainy), 32, *rainy.shape[2:])
    for _ in range(iterations):
        x = conv("conv0_r.0", torch.cat([rainy, rain], 1)).relu()
        h_r, c_r = lstm("_r", torch.cat([x, h_r, h], 1), c_r)
        first = residual("res_conv1_r", h_r)
        second = residual("res_conv2_r", first)
        third = residual("res_conv3_r", second)
        rain = conv("conv_r.0", third)
        x = conv("conv0.0", torch.cat([rainy, image, rain], 1)).relu()
        h, c = lstm("", torch.cat([x, h, h_r], 1), c)
        x = residual("res_conv1", h)
        x = residual("res_conv2", x + attend(first) * x)
        x = residual("res_conv3", x)
        x = residual("res_conv4", x + attend(second) * x)
        x = residual("res_conv5", x)
        image = conv("conv.0", x + attend(third) * x)
    return image


@pytest.mark.parametrize("attention", ["cbam", "se", "none"])
def test_imported_network_agrees_with_a_direct_implementation(attention):
    state = official(attention)
    name, settings = recognize(state)
    assert (name, settings) == ("aidnet", {} if attention == "cbam" else {"attention": attention})
    network = create_model(name, iterations=3, **settings).double().eval()
    network.load_state_dict(convert_official(name, state))
    rainy = torch.rand(2, 3, 17, 22, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network(rainy), direct(state, rainy, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("attention", "count"), [("cbam", 375_788), ("se", 376_598), ("none", 375_526)])
def test_parameter_counts_are_the_published_ones_without_the_unused_blocks(attention, count):
    parameters = sum(p.numel() for p in create_model("aidnet", attention=attention).parameters())
    assert parameters == count
    saved = sum(v.numel() for key, v in official(attention).items() if "running" not in key and "num_" not in key)
    unused = 2 * 2 * (32 * 32 * 9 + 32)
    assert saved == count + unused


def test_prenet_and_aidnet_are_not_confused():
    assert PReNet.official_settings(official("none")) is None
    ablation = official("none")
    for gate in "ifgo":  # BRN-RX: the cell of the rain does not see that of the image
        ablation[f"conv_{gate}_r.0.weight"] = ablation[f"conv_{gate}_r.0.weight"][:, :64]
    assert AIDNet.official_settings(ablation) is None


def test_checkpoints_of_dataparallel_are_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = {key: value.float() if value.is_floating_point() else value for key, value in official("se").items()}
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "net.pth")
    imported = import_checkpoint(tmp_path / "net.pth", settings={"iterations": 2})
    assert (imported.model, imported.settings) == ("aidnet", {"attention": "se", "iterations": 2})
    torch.save(state | {"conv_q.0.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="conv_q"):
        import_checkpoint(tmp_path / "odd.pth")


def test_attention_changes_the_result_and_invalid_settings_are_rejected():
    torch.manual_seed(0)
    network = create_model("aidnet", iterations=1).eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        attended = network(x)
        network.attention = None
        assert (network(x) - attended).abs().max() > 1e-3
    with pytest.raises(ModelError, match="attention"):
        create_model("aidnet", attention="soft")
    with pytest.raises(ModelError, match="iterations"):
        create_model("aidnet", iterations=0)
