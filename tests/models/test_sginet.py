"""SGINet: parameter counts, agreement with an independent implementation, the frozen segmenter."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from derain import create_model, load_model
from derain.errors import ModelError
from derain.segmentation import SEGMENTERS, create_segmenter
from derain.weights.official import convert_official, import_checkpoint, recognize
from support.official import fake_sginet

UNUSED = tuple(f"u_net_heavy.up_{level}.down." for level in range(1, 6))


def count(tensors):
    return sum(t.numel() for t in tensors)


def test_parameter_counts():
    with torch.device("meta"):
        network = create_model("sginet", segmenter="pspnet101")
    official = fake_sginet(32)
    frm = [v for key, v in official.items() if key.startswith("u_net_light.")]
    sim = [v for key, v in official.items() if key.startswith("u_net_heavy.")]
    unused = [v for key, v in official.items() if key.startswith(UNUSED)]
    # The published counts, and ours without the parameters that the authors' code never uses.
    assert (count(frm), count(sim), count(unused)) == (946_563, 77_237_149, 16_748_000)
    assert count(network.frm.parameters()) == 946_563
    assert count(network.sim.parameters()) == 77_237_149 - 16_748_000
    assert count(network.segmenter.parameters()) == 65_707_475
    shapes = {key: value.shape for key, value in without_segmenter(network.state_dict()).items()}
    assert {key: value.shape for key, value in convert_official("sginet", official).items()} == shapes


def without_segmenter(state):
    return {key: value for key, value in state.items() if not key.startswith("segmenter.")}


class Reference:
    """Straightforward FRM and SIM on an official state dictionary, images in 0..255."""

    def __init__(self, state):
        self.state = {key: value.double() for key, value in state.items()}

    def conv(self, x, key, stride=1):
        weight = self.state[f"{key}.weight"]
        return F.conv2d(x, weight, self.state[f"{key}.bias"], stride, weight.shape[-1] // 2)

    def cig(self, x, key):
        return F.gelu(F.instance_norm(self.conv(x, f"{key}.conv")))

    def cas(self, x, key, up=False):
        gate = F.gelu(self.conv(F.adaptive_avg_pool2d(x, 1), f"{key}.context.fc.0"))
        gate = self.conv(gate, f"{key}.context.fc.2").sigmoid()
        if up:
            return gate * F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return gate * self.conv(x, f"{key}.down", 2)

    def frm(self, rain):
        prefix = "u_net_light"
        e2 = self.cig(self.cig(rain, f"{prefix}.encoder_1"), f"{prefix}.encoder_2")
        e4 = self.cig(self.cig(e2, f"{prefix}.encoder_3"), f"{prefix}.encoder_4")
        mid = e4
        for k in range(4):
            mid = self.cig(mid, f"{prefix}.middle.{k}")
        d2 = self.cig(self.cig(torch.cat([mid, e4], 1), f"{prefix}.decoder_1"), f"{prefix}.decoder_2")
        d3 = self.cig(torch.cat([d2, e2], 1), f"{prefix}.decoder_3")
        return (self.conv(d3, f"{prefix}.decoder_4").tanh() + 1) / 2

    def sim(self, rain, coarse, classes):
        prefix = "u_net_heavy"
        a, s = [torch.cat([rain, coarse], 1)], [torch.cat([coarse, classes], 1)]
        for k in range(1, 6):
            x = self.cig(self.cig(a[-1], f"{prefix}.encoder_{2 * k - 1}"), f"{prefix}.encoder_{2 * k}")
            a.append(self.cas(x, f"{prefix}.down_{k}"))
        for k in range(1, 6):
            x = s[0] if k == 1 else torch.cat([s[-1], a[k - 1]], 1)
            x = self.cig(self.cig(x, f"{prefix}.sementic_{2 * k - 1}"), f"{prefix}.sementic_{2 * k}")
            s.append(self.cas(x, f"{prefix}.trans_{k}"))
        x = a[5]
        for k in range(4):
            x = x + self.cig(self.cig(x, f"{prefix}.middle.{k}.layer_1"), f"{prefix}.middle.{k}.layer_2")
        for k in range(1, 6):
            x = self.cas(torch.cat([x, s[6 - k]], 1), f"{prefix}.up_{k}", up=True)
            x = self.cig(x, f"{prefix}.decoder_{2 * k - 1}")
            if k < 5:
                x = self.cig(x, f"{prefix}.decoder_{2 * k}")
        return (self.conv(x, f"{prefix}.decoder_10").tanh() + 1) / 2


@pytest.fixture(scope="module")
def official():
    return fake_sginet(8)


def network_with(official, **settings):
    """A light network with the official weights and a random segmenter that predicts several classes."""
    torch.manual_seed(1)
    network = create_model("sginet", width=8, **settings)
    network.load_segmenter(network.segmenter.state_dict())
    network.load_state_dict(convert_official("sginet", official))
    return network


@pytest.mark.parametrize("as_coded", [False, True])
def test_official_weights_reproduce_the_authors_output(official, as_coded):
    assert recognize(official) == ("sginet", {"width": 8, "segmenter": "pspnet101", "as_coded": True})
    network = network_with(official, as_coded=as_coded).double().eval()
    reference, rainy = Reference(official), torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        coarse = reference.frm(255 * rainy)
        logits = network.segmenter(coarse)
        if as_coded:
            logits = (logits.tanh() + 1) / 2
        classes = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=True).argmax(1)
        refined = reference.sim(255 * rainy, 255 * coarse, classes[:, None].double())
        stages = network.stages(rainy)
        torch.testing.assert_close(stages["coarse"], coarse, rtol=1e-6, atol=1e-6)
        assert torch.equal(stages["class_map"], classes)
        torch.testing.assert_close(stages["refined"], refined, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(network(rainy), refined, rtol=1e-6, atol=1e-6)
    assert len(classes.unique()) > 2


def test_input_and_class_map_of_the_segmenter():
    """Default: normalized images and the largest logit. As coded: 0..255, and ties of saturated logits."""
    inputs = []

    class Fixed(torch.nn.Module):
        """Logits 9, 12 and 3 everywhere."""

        def forward(self, image):
            return torch.tensor([9.0, 12.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)

    for as_coded, expected in ((False, 1), (True, 0)):
        network = create_model("sginet", width=1, as_coded=as_coded).eval()
        network.segmenter.stem.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        image = torch.rand(1, 3, 64, 64)
        network.soft_segmentation(image)
        network.segmenter = Fixed()
        with torch.inference_mode():
            stages = network.stages(image)
        assert (stages["class_map"] == expected).all()
        assert stages["soft"].shape == (1, 3, 64, 64)
        torch.testing.assert_close(stages["soft"][0, :, 0, 0], (torch.tensor([9.0, 12.0, 3.0]).tanh() + 1) / 2)
    assert inputs[0].min() < -0.5
    assert inputs[1].max() > 100


def test_gradients_flow_through_the_soft_map_but_not_the_class_map():
    torch.manual_seed(0)
    network = create_model("sginet", width=2)
    rainy = torch.rand(1, 3, 64, 64)
    stages = network.train().stages(rainy)
    assert not stages["class_map"].requires_grad
    stages["soft"].square().mean().backward()
    assert network.frm.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in (*network.segmenter.parameters(), *network.sim.parameters()))
    stages = network.stages(rainy)
    network.zero_grad()
    stages["refined"].mean().backward()
    assert network.frm.head.weight.grad.abs().sum() > 0  # the coarse image is not detached
    assert network.sim.head.weight.grad.abs().sum() > 0


def test_residual_network_is_initialized_to_the_identity():
    torch.manual_seed(0)
    network = create_model("sginet", width=2, residual=True, segmenter="compact-half")
    rainy = torch.rand(1, 3, 64, 64)
    stages = network.stages(rainy)
    assert torch.equal(stages["coarse"], rainy)
    assert torch.equal(stages["refined"], rainy)
    (stages["refined"] + stages["coarse"]).mean().backward()
    for part in (network.frm, network.sim):
        torch.nn.init.constant_(part.head.bias, -0.1)
        assert part.head.weight.grad.abs().sum() > 0
    darker = network.stages(rainy)
    assert (darker["coarse"] < rainy).float().mean() > 0.9
    assert (darker["refined"] < darker["coarse"]).all()
    assert torch.equal(network(rainy), darker["refined"])


def test_training_does_not_change_the_segmenter():
    torch.manual_seed(0)
    network = create_model("sginet", width=1).train()
    assert network.frm.training
    assert not any(module.training for module in network.segmenter.modules())
    before = {key: value.clone() for key, value in network.segmenter.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    network(torch.rand(1, 3, 64, 64)).mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in network.segmenter.state_dict().items())


def test_loading_states_with_and_without_a_segmenter():
    torch.manual_seed(0)
    network, other = create_model("sginet", width=1), create_model("sginet", width=1)
    light = without_segmenter(network.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(light)  # its segmenter is random, which would go unnoticed
    other.load_segmenter(network.segmenter.state_dict())
    other.load_state_dict(light)
    # In a copy, and as a submodule of a training module.
    holder = torch.nn.ModuleDict({"network": copy.deepcopy(other)})
    holder.load_state_dict({f"network.{key}": value for key, value in light.items()})
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
        assert torch.equal(network.eval()(x), other.eval()(x))
        assert torch.equal(network(x), holder["network"].eval()(x))


def test_import_finds_the_segmenter_next_to_the_checkpoint(tmp_path, monkeypatch, official):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(SEGMENTERS, "pspnet101", SEGMENTERS["compact"])  # a small replacement
    torch.save(official, tmp_path / "model_best.pt")
    with pytest.raises(ModelError, match=r"needs its segmenter too; put pspnet_best\.pt"):
        import_checkpoint(tmp_path / "model_best.pt")
    torch.manual_seed(5)
    segmenter = create_segmenter("compact").state_dict()
    torch.save({f"module.{key}": value for key, value in segmenter.items()}, tmp_path / "pspnet_best.pt")
    imported = import_checkpoint(tmp_path / "model_best.pt", name="mine")
    assert imported.settings == {"width": 8, "segmenter": "pspnet101", "as_coded": True}
    network = load_model("mine")
    assert torch.equal(network.segmenter.stem[0].weight, segmenter["stem.0.weight"])
    assert torch.equal(network.sim.head.weight, official["u_net_heavy.decoder_10.weight"])
    torch.save({"state_dict": {**segmenter, "surplus": torch.zeros(1)}}, tmp_path / "pspnet_best.pt")
    with pytest.raises(ModelError, match="do not fit sginet"):
        import_checkpoint(tmp_path / "model_best.pt", name="other")
    with pytest.raises(ModelError, match="surprise"):
        convert_official("sginet", {**official, "u_net_heavy.surprise.weight": torch.zeros(1)})


def test_impossible_settings_are_rejected():
    with pytest.raises(ModelError, match="width"):
        create_model("sginet", width=0)
    with pytest.raises(ModelError, match="unknown segmenter"):
        create_model("sginet", segmenter="no-such-segmenter")
