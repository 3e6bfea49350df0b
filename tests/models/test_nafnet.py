"""NAFNet: agreement with a direct implementation on an official state dictionary, and its import."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.models.nafnet import window_means
from derain.weights.official import convert_official, import_checkpoint, recognize

SMALL = {"width": 8, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (2, 1)}
SIDD = {"encoder_blocks": (2, 2, 4, 8), "middle_blocks": 12, "decoder_blocks": (2, 2, 2, 2)}
# Names and shapes of the official checkpoint NAFNet-GoPro-width32.
OFFICIAL = {
    "intro.weight": (32, 3, 3, 3),
    "ending.bias": (3,),
    "encoders.0.0.beta": (1, 32, 1, 1),
    "encoders.0.0.norm1.weight": (32,),
    "encoders.1.0.conv1.weight": (128, 64, 1, 1),
    "encoders.2.0.conv2.weight": (256, 1, 3, 3),
    "encoders.3.27.sca.1.weight": (256, 256, 1, 1),
    "middle_blks.0.conv4.weight": (1024, 512, 1, 1),
    "decoders.0.0.conv5.bias": (256,),
    "decoders.3.0.gamma": (1, 32, 1, 1),
    "downs.3.weight": (512, 256, 2, 2),
    "ups.0.0.weight": (1024, 512, 1, 1),
    "ups.3.0.weight": (128, 64, 1, 1),
}


def random_network(**settings):
    torch.manual_seed(0)
    network = create_model("nafnet", **settings).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # β and γ are initialized with zeros
    return network


def direct(state: dict[str, torch.Tensor], rainy: torch.Tensor) -> torch.Tensor:
    """The network written out on the official names."""

    def conv(key: str, x: torch.Tensor, **options) -> torch.Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), **options)

    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, 1e-6).movedim(-1, 1)

    def gate(x: torch.Tensor) -> torch.Tensor:
        return x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :]

    def blocks(prefix: str, x: torch.Tensor) -> torch.Tensor:
        for n in range(sum(key.startswith(f"{prefix}.") and key.endswith(".beta") for key in state)):
            key = f"{prefix}.{n}"
            y = conv(f"{key}.conv1", norm(f"{key}.norm1", x))
            y = gate(conv(f"{key}.conv2", y, padding=1, groups=y.shape[1]))
            y = conv(f"{key}.conv3", y * conv(f"{key}.sca.1", F.adaptive_avg_pool2d(y, 1)))
            x = x + y * state[f"{key}.beta"]
            y = conv(f"{key}.conv5", gate(conv(f"{key}.conv4", norm(f"{key}.norm2", x))))
            x = x + y * state[f"{key}.gamma"]
        return x

    levels = sum(key.startswith("downs.") and key.endswith("weight") for key in state)
    x, skips = conv("intro", rainy, padding=1), []
    for level in range(levels):
        skips.append(blocks(f"encoders.{level}", x))
        x = conv(f"downs.{level}", skips[-1], stride=2)
    x = blocks("middle_blks", x)
    for level in range(levels):
        x = blocks(f"decoders.{level}", F.pixel_shuffle(conv(f"ups.{level}.0", x), 2) + skips[-1 - level])
    return rainy + conv("ending", x, padding=1)


def test_network_agrees_with_a_direct_implementation():
    network = random_network(**SMALL)
    rainy = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    expected = direct(network.state_dict(), rainy)
    with torch.inference_mode():
        torch.testing.assert_close(network(rainy), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(network(rainy), expected, rtol=0, atol=1e-10)


def test_new_network_is_close_to_the_identity_inside():
    """β and γ are zero, so that only the first and last convolution and the resizing act."""
    network = create_model("nafnet", **SMALL)
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith(("beta", "gamma")))


def test_names_and_shapes_are_those_of_the_official_checkpoint():
    with torch.device("meta"):
        state = create_model("nafnet").state_dict()
    assert {key: tuple(state[key].shape) for key in OFFICIAL} == OFFICIAL


@pytest.mark.parametrize(
    ("settings", "count"), [({"width": 64}, 67_888_835), (SIDD, 29_159_715), ({**SIDD, "width": 64}, 115_982_915)]
)
def test_parameter_counts_of_the_official_checkpoints(settings, count):
    with torch.device("meta"):
        network = create_model("nafnet", **settings)
    assert sum(p.numel() for p in network.parameters()) == count
    assert recognize(network.state_dict()) == ("nafnet", settings)


def test_settings_are_inferred_at_import(tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = random_network(**SMALL).float().state_dict()
    torch.save({"params": state}, tmp_path / "net.pth")  # as BasicSR saves it
    imported = import_checkpoint(tmp_path / "net.pth")
    assert (imported.model, imported.settings) == ("nafnet", {k: v for k, v in SMALL.items() if k != "middle_blocks"})
    assert convert_official("nafnet", state) is state


@pytest.mark.parametrize("side", [1, 4, 5, 9, 100])
def test_window_means_are_means_of_the_nearest_full_window(side):
    x = torch.randn(1, 2, 9, 14, dtype=torch.float64)
    means = window_means(x, side)
    height, width = min(side, 9), min(side, 14)
    for row, column in [(0, 0), (4, 6), (8, 13), (2, 11)]:
        top = min(max(row - (9 - (9 - height + 1)) // 2, 0), 9 - height)
        left = min(max(column - (14 - (14 - width + 1)) // 2, 0), 14 - width)
        expected = x[0, :, top : top + height, left : left + width].mean((1, 2))
        torch.testing.assert_close(means[0, :, row, column], expected)


def test_windows_larger_than_the_image_give_the_means_of_the_image():
    whole, local = random_network(**SMALL), random_network(**SMALL, window=64)
    rainy = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(local(rainy), whole(rainy), rtol=0, atol=1e-10)
        smaller = random_network(**SMALL, window=16)
        assert (smaller(rainy) - whole(rainy)).abs().max() > 1e-4


def test_invalid_settings_are_rejected():
    with pytest.raises(ModelError, match="same length"):
        create_model("nafnet", encoder_blocks=(1, 1), decoder_blocks=(1,))
    with pytest.raises(ModelError, match="window"):
        create_model("nafnet", window=0)
