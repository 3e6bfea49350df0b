"""RESCAN: agreement with a direct implementation on an official state dictionary, and its import."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.weights.official import convert_official, import_checkpoint, recognize

GATES = {"gru": "zrn", "rnn": "", "lstm": "fioj"}


def official(recurrence: str, channels: int = 24, depth: int = 7, se: bool = True) -> dict[str, torch.Tensor]:
    """A state dictionary as the authors' code saves it under ``net``; first and last convolution are BGR."""
    generator = torch.Generator().manual_seed(5)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(depth - 2):
        inputs, key = channels if layer else 3, f"rnns.{layer}"
        if recurrence == "none":
            shapes[f"{key}.conv"] = (channels, inputs, 3, 3)
        for gate in GATES.get(recurrence, []) or ([""] if recurrence == "rnn" else []):
            shapes[f"{key}.conv_x{gate}"] = (channels, inputs, 3, 3)
            shapes[f"{key}.conv_h{gate}"] = (channels, channels, 3, 3)
        if se:
            shapes |= {f"{key}.se.fc.0": (6, channels), f"{key}.se.fc.2": (channels, 6)}
    shapes |= {"dec.0": (channels, channels, 3, 3), "dec.3": (3, channels, 1, 1)}
    if se:
        shapes |= {"dec.1.fc.0": (6, channels), "dec.1.fc.2": (channels, 6)}
    state = {}
    for layer_name, shape in shapes.items():
        scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5
        state[f"{layer_name}.weight"] = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        state[f"{layer_name}.bias"] = torch.randn(shape[0], generator=generator, dtype=torch.float64) * 0.2
    return state


def direct(state: dict[str, torch.Tensor], rainy: torch.Tensor, stages: int, additive: bool) -> list[torch.Tensor]:
    """The rain of each stage for a BGR image, written out on the official names."""
    layers = len({key.split(".")[1] for key in state if key.startswith("rnns.")})

    def conv(key: str, x: torch.Tensor, dilation: int = 1) -> torch.Tensor:
        weight = state[f"{key}.weight"]
        pad = dilation * (weight.shape[2] // 2)
        return F.conv2d(x, weight, state[f"{key}.bias"], padding=pad, dilation=dilation)

    def excite(key: str, x: torch.Tensor) -> torch.Tensor:
        if f"{key}.fc.0.weight" not in state:
            return x
        hidden = (x.mean((2, 3)) @ state[f"{key}.fc.0.weight"].T + state[f"{key}.fc.0.bias"]).relu()
        gate = (hidden @ state[f"{key}.fc.2.weight"].T + state[f"{key}.fc.2.bias"]).sigmoid()
        return x * gate[:, :, None, None]

    def unit(index: int, x: torch.Tensor, memory: dict[str, torch.Tensor]) -> torch.Tensor:
        key, dilation = f"rnns.{index}", 1 if index < 2 else 2 ** (index - 1)

        def part(gate: str, hidden: torch.Tensor | None) -> torch.Tensor:
            total = conv(f"{key}.conv_x{gate}", x, dilation)
            return total if hidden is None else total + conv(f"{key}.conv_h{gate}", hidden)

        old = memory.get(f"h{index}")
        if f"{key}.conv.weight" in state:
            new = conv(f"{key}.conv", x, dilation)
        elif f"{key}.conv_x.weight" in state:
            new = part("", old).tanh()
        elif f"{key}.conv_xz.weight" in state:
            z = part("z", old).sigmoid()
            if old is None:
                new = z * part("n", None).tanh()
            else:
                new = (1 - z) * old + z * part("n", part("r", old).sigmoid() * old).tanh()
        else:
            i, o, j = part("i", old).sigmoid(), part("o", old).sigmoid(), part("j", old).tanh()
            if old is None:
                memory[f"c{index}"] = i * j
                new = o * memory[f"c{index}"]
            else:
                memory[f"c{index}"] = part("f", old).sigmoid() * memory[f"c{index}"] + i * j
                new = o * memory[f"c{index}"].tanh()
        memory[f"h{index}"] = F.leaky_relu(excite(f"{key}.se", new), 0.2)
        return memory[f"h{index}"]

    memory: dict[str, torch.Tensor] = {}
    rains: list[torch.Tensor] = []
    x = rainy
    for _ in range(stages):
        for index in range(layers):
            x = unit(index, x, memory)
        rain = conv("dec.3", F.leaky_relu(excite("dec.1", conv("dec.0", x)), 0.2))
        rains.append(rain + rains[-1] if additive and rains else rain)
        x = rainy - rains[-1]
    return rains


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("recurrence", ["gru", "rnn", "lstm", "none"])
def test_imported_network_agrees_with_a_direct_implementation(recurrence, additive):
    """The authors' network sees BGR; the imported one computes the same of an RGB image."""
    state = official(recurrence)
    name, settings = recognize(state)
    assert (name, settings) == ("rescan", {} if recurrence == "gru" else {"recurrence": recurrence})
    network = create_model(name, iterations=3, additive=additive, **settings).double().eval()
    network.load_state_dict(convert_official(name, state))
    rainy = torch.rand(2, 3, 15, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rains = direct(state, rainy.flip(1), 3, additive)
    with torch.inference_mode():
        stages = network.stages(rainy)
        torch.testing.assert_close(network(rainy), rainy - rains[-1].flip(1), rtol=0, atol=1e-9)
    torch.testing.assert_close(network(rainy).detach(), stages["stage3"], rtol=0, atol=1e-9)
    for stage, rain in zip(stages.values(), rains, strict=True):
        torch.testing.assert_close(stage, rainy - rain.flip(1), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("recurrence", "count"), [("rnn", 54_735), ("lstm", 197_367), ("none", 28_695)])
def test_parameter_counts_of_variants(recurrence, count):
    assert sum(p.numel() for p in create_model("rescan", recurrence=recurrence).parameters()) == count
    assert sum(value.numel() for value in official(recurrence).values()) == count


def test_settings_are_inferred_from_the_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = {key: value.float() for key, value in official("lstm", channels=8, depth=5, se=False).items()}
    torch.save({"net": state, "clock": 100}, tmp_path / "latest")
    imported = import_checkpoint(tmp_path / "latest", settings={"additive": True})
    settings = {"channels": 8, "depth": 5, "recurrence": "lstm", "squeeze_excitation": False, "additive": True}
    assert (imported.model, imported.settings) == ("rescan", settings)


def test_no_gradient_flows_through_the_sum_of_earlier_stages():
    torch.manual_seed(0)
    network = create_model("rescan", iterations=2, channels=8, recurrence="none", additive=True)
    x = torch.rand(1, 3, 12, 12)
    gradients = []
    for sum_of_stages in (True, False):
        network.zero_grad()
        if sum_of_stages:
            network(x).sum().backward()
        else:  # the second stage alone, from a first one that still carries a gradient
            rain = network.stages(x)["stage1"]
            network.additive = False
            (network.stages(x)["stage2"] + rain.detach()).sum().backward()
        gradients.append(network.dec[3].bias.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_invalid_settings_are_rejected():
    with pytest.raises(ModelError, match="depth"):
        create_model("rescan", depth=2)
    with pytest.raises(ModelError, match="recurrence"):
        create_model("rescan", recurrence="gated")
