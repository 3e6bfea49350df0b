"""JDNet: variants, agreement with an independent implementation of the authors' network, sizes, memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.models import MODELS
from derain.weights.official import convert_official, import_checkpoint, recognize
from support.official import fake_jdnet

VARIANTS = {
    "base": ({}, {}),
    "r1": ({"attention": "none", "calibration": False}, {"attention": "none", "self_calibration": False}),
    "r2": ({"attention": "none"}, {"attention": "none"}),
    "gates": ({"gates": True}, {"scale_attention": True}),
    "patchwise": ({"attention": "patchwise"}, {"attention": "patchwise", "window": 7}),
    "scales": ({"scales": 3}, {"scales": 3}),
}


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"units": 8}, 1_073_483),
        ({"units": 16}, 2_210_739),
        ({"units": 24}, 3_413_531),
        ({"attention": "none", "self_calibration": False}, 4_292_323),
        ({"attention": "none"}, 4_656_867),
        ({"scale_attention": True}, 4_681_859 + 135_168),
    ],
)
def test_parameter_counts_of_the_variants(settings, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model("jdnet", **settings).parameters()) == count


def lrelu(x):
    return F.leaky_relu(x, 0.2)


class Reference:
    """Straightforward JDNet on an official state dictionary: BGR, everything concatenated and unfolded."""

    def __init__(self, state):
        self.state = {key: value.double() for key, value in state.items()}

    def conv(self, x, key, stride=1):
        weight = self.state[f"{key}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{key}.bias"), stride, weight.shape[-1] // 2)

    def norm(self, x, key):
        mean, var, gain, shift = (
            self.state[f"{key}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + shift

    @staticmethod
    def unfold(x):
        padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
        return F.unfold(padded, 7).view(*x.shape[:2], 49, -1)

    def attend(self, x, key):
        n, _, height, width = x.shape
        q, k, v = (self.conv(x, f"{key}.conv{i}") for i in (1, 2, 3))
        values = self.unfold(v)
        if f"{key}.conv_p.weight" in self.state:
            ys, xs = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in (height, width))
            grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1])[None]
            position = self.conv(grid, f"{key}.conv_p")
            relations = [a.flatten(2)[:, :, None] - self.unfold(b) for a, b in ((q, k), (position, position))]
            relation = torch.cat([relations[0], relations[1].expand(n, -1, -1, -1)], 1)
            weights = self.conv(self.conv(lrelu(relation), f"{key}.conv_w.1"), f"{key}.conv_w.2").softmax(2)
        else:
            relation = torch.cat([q.flatten(2), self.unfold(k).flatten(1, 2)], 1)[:, :, None]
            weights = self.conv(self.conv(lrelu(relation), f"{key}.conv_w.1"), f"{key}.conv_w.2").view(n, 1, 49, -1)
        return (weights * values).sum(2).view(n, -1, height, width)

    def unit(self, x, key):
        if f"{key}.san.bn1.weight" in self.state:
            inner = self.attend(lrelu(self.norm(x, f"{key}.san.bn1")), f"{key}.san.sam")
            x = x + self.conv(lrelu(self.norm(inner, f"{key}.san.bn2")), f"{key}.san.conv")
        levels, level, k = [x], x, 0
        while f"{key}.res_list.{k}.convert.0.weight" in self.state:
            level = lrelu(self.conv(level, f"{key}.res_list.{k}.convert.0", stride=2))
            inner = lrelu(self.conv(level, f"{key}.res_list.{k}.res.0"))
            level = level + self.conv(inner, f"{key}.res_list.{k}.res.2")
            if f"{key}.scale_attention.{k}.1.weight" in self.state:
                gate = self.conv(F.max_pool2d(x, 2 ** (k + 1)), f"{key}.scale_attention.{k}.1").sigmoid()
                level = level * F.interpolate(gate, level.shape[2:])
            levels.append(F.interpolate(level, x.shape[2:]))
            k += 1
        x = x + lrelu(self.conv(torch.cat(levels, 1), f"{key}.conv11.0"))
        if f"{key}.scn.conv3.weight" not in self.state:
            return x
        a = lrelu(self.conv(lrelu(self.conv(x, f"{key}.scn.conv1_a")), f"{key}.scn.k1.0"))
        b = lrelu(self.conv(x, f"{key}.scn.conv1_b"))
        context = F.interpolate(self.conv(F.avg_pool2d(b, 4), f"{key}.scn.scconv.k2.1"), b.shape[2:])
        b = lrelu(self.conv(self.conv(b, f"{key}.scn.scconv.k3.0") * (b + context).sigmoid(), f"{key}.scn.scconv.k4.0"))
        return lrelu(x + self.conv(torch.cat([a, b], 1), f"{key}.scn.conv3"))

    def __call__(self, bgr):
        features = [lrelu(self.conv(bgr, "enterBlock.0"))]
        out, i = features[0], 0
        while f"derain_net.conv1x1.{i}.0.weight" in self.state:
            features.append(self.unit(out, f"derain_net.units.{i}"))
            out = lrelu(self.conv(torch.cat(features, 1), f"derain_net.conv1x1.{i}.0"))
            i += 1
        return bgr - lrelu(self.conv(out, "exitBlock.0"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_weights_reproduce_the_authors_output(variant):
    official_options, expected = VARIANTS[variant]
    official = fake_jdnet(**official_options)
    name, settings = recognize(official)
    assert (name, settings) == ("jdnet", {"units": 2, **expected})
    network = create_model(name, **settings).eval()
    converted = convert_official(name, official)
    assert len(converted) == len(official)
    network.load_state_dict(converted)
    network.double()
    torch.manual_seed(0)
    rgb = torch.rand(2, 3, 21, 34, dtype=torch.float64)
    authors = Reference(official)(rgb.flip(1)).flip(1)
    with torch.inference_mode():
        torch.testing.assert_close(network(rgb), authors, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network(rgb), authors, rtol=1e-9, atol=1e-9)  # the implementation for training


def test_gradients_agree_with_the_reference():
    official = fake_jdnet(units=2)
    network = create_model("jdnet", units=2).eval()
    network.load_state_dict(convert_official("jdnet", official))
    network.double()
    reference = Reference(official)
    tracked = {key: value.requires_grad_() for key, value in reference.state.items() if value.is_floating_point()}
    torch.manual_seed(0)
    rgb = torch.rand(1, 3, 17, 19, dtype=torch.float64)
    network(rgb).square().sum().backward()
    reference(rgb.flip(1)).square().sum().backward()
    key = "derain_net.units.0"
    pairs = {
        f"{key}.san.sam.conv1.weight": network.units[0].attention.attend.query.weight,
        f"{key}.san.sam.conv2.bias": network.units[0].attention.attend.key.bias,
        f"{key}.san.sam.conv_p.weight": network.units[0].attention.attend.position.weight,
        f"{key}.san.sam.conv_w.1.weight": network.units[0].attention.attend.relate.weight,
        f"{key}.conv11.0.weight": network.units[0].pyramid.fusion.weight,
        "derain_net.conv1x1.1.0.weight": network.fusions[1].weight,
    }
    for name, parameter in pairs.items():
        torch.testing.assert_close(parameter.grad, tracked[name].grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [(17, 31), (4, 4), (5, 4), (4, 97), (13, 13)])
@pytest.mark.parametrize("gates", [False, True])
def test_any_size_from_four_pixels(size, gates):
    network = create_model("jdnet", units=1, scale_attention=gates).eval()
    x = torch.rand(1, 3, *size)
    with torch.inference_mode():
        assert network(x).shape == x.shape


def test_tiles_agree_with_the_full_image_if_the_pyramids_are_aligned():
    torch.manual_seed(0)
    network = create_model("jdnet", units=1, attention="none").eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, 0.2)  # rain of about the magnitude of the image
    align, center = MODELS["jdnet"].align, slice(100, 124)
    x = torch.rand(1, 3, 64, 448)
    with torch.inference_mode():
        full = network.rain(x)
        error = [
            (network.rain(x[..., start : start + 224])[..., center] - full[..., start + 100 : start + 124]).std()
            for start in (8 * align, 8 * align + align // 2)
        ]
    assert error[0] < 0.05 * full.std() < error[1]


def test_output_is_the_input_minus_the_rain_layer():
    network = create_model("jdnet", units=1).eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), x - network.rain(x))


def test_positions_keep_full_precision_under_autocast():
    """In bfloat16 the positions of neighbors in a wide image would be equal."""
    torch.manual_seed(0)
    attend = create_model("jdnet", units=1).units[0].attention.attend
    x = torch.zeros(1, 32, 8, 700)
    torch.nn.init.constant_(attend.relate.weight, 60.0)
    torch.nn.init.normal_(attend.value.weight)
    x[..., ::2] = 1
    with torch.inference_mode():
        fp32 = attend(x)
        with torch.autocast("cpu", torch.bfloat16):
            bf16 = attend(x)
    assert (bf16 - fp32).abs().max() < 0.02 * fp32.abs().max()


def test_impossible_settings_are_rejected():
    for settings, message in (
        ({"attention": "global"}, "pairwise, patchwise or none"),
        ({"channels": 8}, "at least 16"),
        ({"units": 0}, "at least 1"),
        ({"window": 4}, "odd"),
    ):
        with pytest.raises(ModelError, match=message):
            create_model("jdnet", **settings)


def test_import_of_a_training_checkpoint(tmp_path, monkeypatch):
    """The authors save {net, clock_net, opt_net} in a file without an extension."""
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = {f"module.{key}": value for key, value in fake_jdnet().items()}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    torch.save({"net": state, "clock_net": 25, "opt_net": optimizer}, tmp_path / "latest_net")
    imported = import_checkpoint(tmp_path / "latest_net", name="mine")
    assert (imported.model, imported.settings) == ("jdnet", {"units": 2})
    with pytest.raises(ModelError, match="surprise"):
        convert_official("jdnet", {**fake_jdnet(), "derain_net.units.0.surprise.weight": torch.zeros(1)})


MEASURE_PEAK = """
import json, resource, sys, torch
from derain import create_model
torch.set_num_threads(1)
name, settings, height, width = json.loads(sys.argv[1])
network = create_model(name, **settings).eval()
with torch.inference_mode():
    network(torch.rand(1, 3, height, width))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_gigabytes(*arguments):
    """Peak resident memory of one forward pass in a separate process."""
    command = [sys.executable, "-c", MEASURE_PEAK, json.dumps(arguments)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(out) * 1024 / 1e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "max_gigabytes"),
    [("jdnet", {}, 2.0), ("sginet", {}, 3.0), ("sginet", {"segmenter": "pspnet101", "as_coded": True}, 4.0)],
)
def test_memory_at_480x320_is_bounded(name, settings, max_gigabytes):
    assert peak_gigabytes(name, settings, 320, 480) < max_gigabytes
