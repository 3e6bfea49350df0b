"""SGINet (Wei et al., "SGINet: Toward Sufficient Interaction Between Single Image Deraining and Semantic
Segmentation", ACM MM 2022).

Three steps in one network: the full-resolution module (FRM) derains coarsely, a frozen segmenter (SEM)
says what is where in that, and the semantic interaction module (SIM), a U-net with two encoders, refines
the result with the class map. FRM has 946,563 parameters and SIM 60,489,149 at the defaults.

Where paper and code differ, or the code surprises:

- The authors' SIM counts 77,237,149: each of its five upscaling blocks also owns a strided convolution
  that nothing uses, 16,748,000 in all. They are left out here, and dropped when a checkpoint is imported.
- Pictures are 0..255 inside, the class index 0..18 beside them; instance normalization after the first
  convolution hides the scale. The public border is [0, 1].
- The authors feed 0..255 to a segmenter that was trained on normalized pictures, and take the class from
  (tanh + 1) / 2 of its logits, which is exactly 1 from about 8.5 on, so that ties go to the lowest class.
  By default both are mended: the segmenter sees what it was trained on, the class is the largest logit.
  ``as_coded=True`` is theirs, which official weights were trained with; an import sets it.
- No gradient passes the class map, and the segmenter never learns: it is frozen and always in ``eval``.
- A bias before instance normalization has no effect; the authors' are kept, so that their weights load.
- Instance normalization and the gates of the scaling blocks average over the picture: a tile is not the
  whole, and its brightness may jump, so pictures run whole as far as memory goes. At 480×320 a forward on a
  CPU takes 1.0 GB of process memory, 1.3 with PSPNet-101.

The authors' segmenter is PSPNet-101 (65,707,475 parameters, 19 classes); the default here is the small
one of our own, which fits beside a network that trains on a CPU. A state dictionary holds the segmenter,
so that a weight file works alone; :meth:`SGINet.unfrozen_state_dict` leaves it out, for checkpoints
while training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from derain.segmentation import create_segmenter, enlarge

from .layers import Fp32Conv2d, channel_means

_REDUCTION = 16
_LEVELS = (1, 2, 4, 8, 16)  # channels of both encoders, in widths
_UP = ((32, 32, 16), (24, 24, 8), (12, 12, 6), (8, 8, 2))  # of the decoder: joined, first, second


class Stages(NamedTuple):
    """What SGINet finds on its way.

    Attributes:
        coarse: FRM's result, ``(N, 3, H, W)`` in [0, 1].
        soft: the segmenter's soft map of it, ``(N, classes, H, W)`` in [0, 1], with gradient.
        class_map: the class of each pixel, ``(N, H, W)`` int64.
        refined: the derained picture, as :meth:`SGINet.forward` gives it.
    """

    coarse: Tensor
    soft: Tensor
    class_map: Tensor
    refined: Tensor


def _conv(inner: int, outer: int, kernel: int = 3, kind: type[nn.Conv2d] = nn.Conv2d) -> nn.Sequential:
    """Convolution, instance normalization without weights, GELU."""
    conv = kind(inner, outer, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.InstanceNorm2d(outer), nn.GELU())


def _unit(x: Tensor) -> Tensor:
    return (torch.tanh(x) + 1) / 2


class ContextAwareScaling(nn.Module):
    """CAS: half (strided convolution) or twice (bilinear) the resolution, gated by the channels' means."""

    def __init__(self, channels: int, up: bool = False) -> None:
        super().__init__()
        narrow = max(1, channels // _REDUCTION)
        self.gate = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.GELU(), nn.Conv2d(narrow, channels, 1))
        self.conv = None if up else nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(channel_means(x)))
        scaled = enlarge(x, 2 * x.shape[2], 2 * x.shape[3]) if self.conv is None else self.conv(x)
        return gate * scaled


class FullResolutionModule(nn.Module):
    """FRM: convolutions at full resolution with two skips, ``(N, 3, H, W)`` in 0..255 to what the head finds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        n = width
        self.encoder = nn.ModuleList(
            [_conv(3, n, 7, Fp32Conv2d), _conv(n, 2 * n), _conv(2 * n, 2 * n), _conv(2 * n, 4 * n)]
        )
        self.middle = nn.Sequential(*(_conv(4 * n, 4 * n) for _ in range(4)))
        self.decoder = nn.ModuleList([_conv(8 * n, 2 * n), _conv(2 * n, 2 * n), _conv(4 * n, n)])
        self.head = Fp32Conv2d(n, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        early = self.encoder[1](self.encoder[0](x))
        late = self.encoder[3](self.encoder[2](early))
        x = self.decoder[0](torch.cat([self.middle(late), late], dim=1))
        x = self.decoder[2](torch.cat([self.decoder[1](x), early], dim=1))
        found: Tensor = self.head(x)
        return found


class _Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


class SemanticInteractionModule(nn.Module):
    """SIM: a U-net whose semantic encoder reads the picture encoder level by level and feeds the skips.

    Shape: rainy and coarse ``(N, 3, H, W)`` in 0..255 and classes ``(N, 1, H, W)`` to what the head finds,
    ``(N, 3, H, W)``; H and W multiples of 32 and at least 64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        n = width
        self.picture, self.semantic = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(_LEVELS):
            before = _LEVELS[level - 1]
            if level == 0:
                first, meeting = _conv(6, n, 7, Fp32Conv2d), _conv(4, n, 7, Fp32Conv2d)
            else:
                first, meeting = _conv(before * n, wide * n), _conv(2 * before * n, wide * n)
            for encoder, start in ((self.picture, first), (self.semantic, meeting)):
                encoder.append(nn.Sequential(start, _conv(wide * n, wide * n), ContextAwareScaling(wide * n)))
        self.middle = nn.Sequential(*(_Residual(_LEVELS[-1] * n) for _ in range(4)))
        self.decoder = nn.ModuleList(
            nn.Sequential(
                ContextAwareScaling(joined * n, up=True), _conv(joined * n, first * n), _conv(first * n, second * n)
            )
            for joined, first, second in _UP
        )
        self.decoder.append(nn.Sequential(ContextAwareScaling(3 * n, up=True), _conv(3 * n, n)))
        self.head = Fp32Conv2d(n, 3, 3, padding=1)

    def forward(self, rainy: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        x, semantics = torch.cat([rainy, coarse], dim=1), torch.cat([coarse, classes], dim=1)
        skips: list[Tensor] = []
        for picture, semantic in zip(self.picture, self.semantic, strict=True):
            # The semantic encoder meets the features that the picture encoder made one level above.
            semantics = semantic(torch.cat([semantics, x], dim=1) if skips else semantics)
            skips.append(semantics)
            x = picture(x)
        x = self.middle(x)
        for level in self.decoder:
            x = level(torch.cat([x, skips.pop()], dim=1))
        found: Tensor = self.head(x)
        return found


class SGINet(nn.Module):
    """Semantic guided interactive network.

    Args:
        width: channels of the first level, the authors' n (32); a light network has 8 or 12.
        segmenter: a key of :data:`derain.segmentation.SEGMENTERS`; the authors' is ``pspnet101``.
        classes: of the segmenter; its usual number if ``None``.
        as_coded: feed and read the segmenter as the authors' code does; see the module's text.
        residual: each step adds to the picture before it; the authors' paint it anew, which instance
            normalization makes hard: no layer after the first knows how bright the picture is.

    Attributes:
        stage_names: what :meth:`stages` gives, for losses that look at it.

    The segmenter is random until :meth:`load_segmenter`, or until a state that holds it is loaded.

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same; H and W multiples of 32 and at least 64.
    """

    stage_names = Stages._fields
    #: Its splits along the channels are copied in channels_last: fp32 on a CPU is slower so (measured).
    nchw_on_cpu = True

    def __init__(
        self,
        width: int = 32,
        segmenter: str = "compact",
        classes: int | None = None,
        as_coded: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError("width must be at least 1")
        self.as_coded, self.residual = as_coded, residual
        self.frm = FullResolutionModule(width)
        self.sim = SemanticInteractionModule(width)
        if residual:
            for head in (self.frm.head, self.sim.head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.segmenter = create_segmenter(segmenter, classes, normalize=not as_coded)
        self.segmenter.requires_grad_(False).eval()
        #: Bytes of working memory a pixel without gradients, fp32 (measured at widths 8 and 32).
        self.memory_per_pixel = 110 * width + 250
        self._segmenter_filled = False
        self.register_load_state_dict_pre_hook(_keep_segmenter)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> SGINet:
        """Switch to training; the segmenter stays as it is."""
        super().train(mode)
        self.segmenter.eval()
        return self

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        coarse = self._coarse(rainy)
        with torch.no_grad():
            classes = self._read(self.segmenter(coarse), coarse)[1]
        return self._refine(rainy, coarse, classes)

    def stages(self, rainy: Tensor) -> Stages:
        """Everything on the way to the derained picture, for losses that look at it."""
        coarse = self._coarse(rainy)
        soft, classes = self._read(self.segmenter(coarse), coarse)
        return Stages(coarse, soft, classes, self._refine(rainy, coarse, classes))

    def semantics(self, picture: Tensor) -> Tensor:
        """The segmenter's soft map of a picture, ``(N, 3, H, W)`` in [0, 1] to ``(N, classes, H, W)`` in [0, 1].

        ``(tanh(logit) + 1) / 2``, enlarged: what the CSD loss compares (the authors' eq. of L_seg). The
        gradient reaches the picture.
        """
        return self._read(self.segmenter(picture), picture)[0]

    def _read(self, logits: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Soft map and class map of the picture's size."""
        soft = enlarge(_unit(logits), *picture.shape[-2:])
        judged = soft if self.as_coded else enlarge(logits, *picture.shape[-2:])
        return soft, judged.detach().argmax(dim=1)

    def _coarse(self, rainy: Tensor) -> Tensor:
        found = self.frm(255 * rainy)
        return (rainy + torch.tanh(found)).clamp(0, 1) if self.residual else _unit(found)

    def _refine(self, rainy: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        found = self.sim(255 * rainy, 255 * coarse, classes[:, None].to(coarse.dtype))
        return coarse + torch.tanh(found) if self.residual else _unit(found)

    def load_segmenter(self, state: Mapping[str, Tensor]) -> SGINet:
        """Fill the segmenter, from its own state or from a published checkpoint's; it stays frozen.

        ``derain.weights.official.read_checkpoint`` reads such files.

        Raises:
            RuntimeError: the tensors do not fit.
        """
        self.segmenter.load_state_dict(self.segmenter.rename_public(state))  # type: ignore[operator]
        self._segmenter_filled = True
        return self

    def unfrozen_state_dict(self) -> dict[str, Tensor]:
        """The state without the frozen segmenter.

        A network whose segmenter was filled before loads it with ``load_state_dict`` and keeps its
        segmenter; any other refuses it for the missing keys.
        """
        return {key: value for key, value in self.state_dict().items() if not key.startswith("segmenter.")}

    #: The authors keep the segmenter in a file beside the network's; an import looks for one of these.
    official_companions = ("pspnet_best.pt", "pspnet_latest.pt", "train_epoch_200_psp101.pth", "train_epoch_200.pth")

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of an official checkpoint under derain's names, without the unused convolutions.

        Raises:
            KeyError: a key that such checkpoints do not have.
        """
        renamed, names = {}, _official_names()
        for key, value in state.items():
            layer, _, kind = key.rpartition(".")
            if layer not in names:
                raise KeyError(key)
            if (name := names[layer]) is not None:
                renamed[f"{name}.{kind}"] = value
        return renamed

    @staticmethod
    def official_settings(state: dict[str, Tensor]) -> dict[str, Any] | None:
        """The settings of an official checkpoint, or ``None`` if it is another network's."""
        first = state.get("u_net_heavy.sementic_1.conv.weight")
        if first is None:
            return None
        settings: dict[str, Any] = {"segmenter": "pspnet101", "as_coded": True}
        return settings if first.shape[0] == 32 else {"width": first.shape[0], **settings}


def _keep_segmenter(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: a state without a segmenter keeps the one that is there, if it was ever filled."""
    assert isinstance(module, SGINet)
    place = f"{prefix}segmenter."
    if any(key.startswith(place) for key in state):
        module._segmenter_filled = True
    elif module._segmenter_filled:
        state.update({place + key: value for key, value in module.segmenter.state_dict().items()})


def _official_names() -> dict[str, str | None]:
    """Official layer to ours; ``None`` for the convolutions that nothing uses."""
    light, heavy = "u_net_light", "u_net_heavy"
    names: dict[str, str | None] = {f"{light}.decoder_4": "frm.head", f"{heavy}.decoder_10": "sim.head"}
    for k in range(4):
        names[f"{light}.encoder_{k + 1}.conv"] = f"frm.encoder.{k}.0"
        names[f"{light}.middle.{k}.conv"] = f"frm.middle.{k}.0"
        for place in range(2):
            names[f"{heavy}.middle.{k}.layer_{place + 1}.conv"] = f"sim.middle.{k}.body.{place}.0"
    for k in range(3):
        names[f"{light}.decoder_{k + 1}.conv"] = f"frm.decoder.{k}.0"
    for level in range(5):
        for place in range(2):
            number = 2 * level + place + 1
            names[f"{heavy}.encoder_{number}.conv"] = f"sim.picture.{level}.{place}.0"
            names[f"{heavy}.sementic_{number}.conv"] = f"sim.semantic.{level}.{place}.0"
            names[f"{heavy}.decoder_{number}.conv"] = f"sim.decoder.{level}.{place + 1}.0"
        for scaling, ours in (("down", "picture.{}.2"), ("trans", "semantic.{}.2"), ("up", "decoder.{}.0")):
            old, new = f"{heavy}.{scaling}_{level + 1}", f"sim.{ours.format(level)}"
            names |= {f"{old}.context.fc.0": f"{new}.gate.0", f"{old}.context.fc.2": f"{new}.gate.2"}
            names[f"{old}.down"] = None if scaling == "up" else f"{new}.conv"
    return names
