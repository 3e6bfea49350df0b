"""SGINet (Wei et al., "SGINet: Toward Sufficient Interaction Between Single Image Deraining and Semantic
Segmentation", ACM MM 2022).

Three steps in one network: the full-resolution module (FRM) computes a coarse derained image, a frozen
segmenter (SEM) segments it, and the semantic interaction module (SIM), a U-Net with two encoders, refines
the coarse image using the class map. FRM has 946,563 parameters and SIM 60,489,149 at the defaults.

Where paper and code differ, or the code is unexpected:

- The authors' SIM has 77,237,149 parameters: each of its five upscaling blocks also contains an unused strided
  convolution, 16,748,000 parameters in total. They are omitted here, and dropped when a checkpoint is imported.
- Internally images are in 0..255, concatenated with class indices 0..18; instance normalization after the
  first convolution removes the scale. The public range is [0, 1].
- The authors feed 0..255 to a segmenter that was trained on normalized images, and take the class from
  (tanh + 1) / 2 of its logits, which saturates to exactly 1 above about 8.5, so that ties go to the lowest
  class. By default both are fixed: the segmenter gets normalized images, and the class is that of the largest
  logit. ``as_coded=True`` reproduces the authors' code, with which the official weights were trained; import
  sets it.
- No gradient passes through the class map, and the segmenter is not trained: it is frozen and always in
  ``eval`` mode.
- A bias before instance normalization has no effect; the authors' biases are kept so that their weights load.
- Instance normalization and the gates of the scaling blocks average over the image: the result of a tile
  differs from that of the full image, and the brightness may jump between tiles, so images are processed
  without tiling as far as memory allows. At 480×320 a forward pass on a CPU takes 1.0 GB of process memory,
  1.3 GB with PSPNet-101.

The authors' segmenter is PSPNet-101 (65,707,475 parameters, 19 classes); the default here is derain's compact
segmenter, which is small enough for training on a CPU. The state dictionary includes the segmenter, so that a
checkpoint is self-contained. A state dictionary without a segmenter (``segmenter.*``) can be loaded into a
network whose segmenter has been loaded already; that one is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from derain.segmentation import create_segmenter, enlarge

from .base import HasMemoryEstimate, HasOfficialCheckpoints, HasSegmenter, HasStages, PrefersContiguous
from .layers import Fp32Conv2d, channel_means

_REDUCTION = 16
# Channels in multiples of ``width``.
_ENCODER_CHANNELS = (1, 2, 4, 8, 16)  # each level of both encoders
_DECODER_CHANNELS = ((32, 32, 16), (24, 24, 8), (12, 12, 6), (8, 8, 2))  # concatenated input, first, second convolution


def _conv(
    in_channels: int, out_channels: int, kernel_size: int = 3, conv_type: type[nn.Conv2d] = nn.Conv2d
) -> nn.Sequential:
    """Convolution, instance normalization without affine parameters, GELU."""
    conv = conv_type(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(conv, nn.InstanceNorm2d(out_channels), nn.GELU())


def _tanh_to_unit(x: Tensor) -> Tensor:
    """Tanh, rescaled to [0, 1]."""
    return (torch.tanh(x) + 1) / 2


class ContextAwareScaling(nn.Module):
    """CAS: scaling to half (strided convolution) or twice (bilinear) the resolution, gated by the channel means."""

    def __init__(self, channels: int, up: bool = False) -> None:
        super().__init__()
        reduced = max(1, channels // _REDUCTION)
        self.gate = nn.Sequential(nn.Conv2d(channels, reduced, 1), nn.GELU(), nn.Conv2d(reduced, channels, 1))
        self.conv = None if up else nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(channel_means(x)))
        scaled = enlarge(x, 2 * x.shape[2], 2 * x.shape[3]) if self.conv is None else self.conv(x)
        return gate * scaled


class FullResolutionModule(nn.Module):
    """FRM: convolutions at full resolution with two skips; maps ``(N, 3, H, W)`` in 0..255 to the head's output."""

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
        shallow = self.encoder[1](self.encoder[0](x))
        deep = self.encoder[3](self.encoder[2](shallow))
        x = self.decoder[0](torch.cat([self.middle(deep), deep], dim=1))
        x = self.decoder[2](torch.cat([self.decoder[1](x), shallow], dim=1))
        out: Tensor = self.head(x)
        return out


class _Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


class SemanticInteractionModule(nn.Module):
    """SIM: a U-Net with an image encoder and a semantic encoder.

    The semantic encoder takes the image encoder's features level by level, and its outputs are the skips.

    Shape: rainy and coarse ``(N, 3, H, W)`` in 0..255 and classes ``(N, 1, H, W)`` to the output of the head,
    ``(N, 3, H, W)``; H and W must be multiples of 32 and at least 64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        n = width
        self.picture, self.semantic = nn.ModuleList(), nn.ModuleList()
        for level, multiple in enumerate(_ENCODER_CHANNELS):
            channels, previous = multiple * n, _ENCODER_CHANNELS[level - 1] * n
            if level == 0:
                image_conv, semantic_conv = _conv(6, n, 7, Fp32Conv2d), _conv(4, n, 7, Fp32Conv2d)
            else:
                image_conv, semantic_conv = _conv(previous, channels), _conv(2 * previous, channels)
            for encoder, conv in ((self.picture, image_conv), (self.semantic, semantic_conv)):
                encoder.append(nn.Sequential(conv, _conv(channels, channels), ContextAwareScaling(channels)))
        self.middle = nn.Sequential(*(_Residual(_ENCODER_CHANNELS[-1] * n) for _ in range(4)))
        self.decoder = nn.ModuleList(
            nn.Sequential(
                ContextAwareScaling(joined * n, up=True), _conv(joined * n, first * n), _conv(first * n, second * n)
            )
            for joined, first, second in _DECODER_CHANNELS
        )
        self.decoder.append(nn.Sequential(ContextAwareScaling(3 * n, up=True), _conv(3 * n, n)))
        self.head = Fp32Conv2d(n, 3, 3, padding=1)

    def forward(self, rainy: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        x, semantics = torch.cat([rainy, coarse], dim=1), torch.cat([coarse, classes], dim=1)
        skips: list[Tensor] = []
        for image_level, semantic_level in zip(self.picture, self.semantic, strict=True):
            # The semantic encoder also takes the image encoder's features of the previous level.
            semantics = semantic_level(torch.cat([semantics, x], dim=1) if skips else semantics)
            skips.append(semantics)
            x = image_level(x)
        x = self.middle(x)
        for level in self.decoder:
            x = level(torch.cat([x, skips.pop()], dim=1))
        out: Tensor = self.head(x)
        return out


class SGINet(HasStages, HasSegmenter, HasOfficialCheckpoints, HasMemoryEstimate, PrefersContiguous, nn.Module):
    """Semantic guided interactive network.

    Args:
        width: channels of the first level, the authors' n (32); 8 or 12 for a light network.
        segmenter: a key of :data:`derain.segmentation.SEGMENTERS`; the authors' is ``pspnet101``.
        classes: number of classes of the segmenter; ``None`` for its default.
        as_coded: normalize the input and read the output of the segmenter as the authors' code does; see the
            module docstring.
        residual: FRM and SIM predict residuals that are added to their input image. The authors' predict the
            image itself, which instance normalization makes difficult, because layers after the first have
            no information about the brightness of the image.

    The segmenter is randomly initialized until :meth:`load_segmenter` is called or a state dictionary that
    contains it is loaded.

    In channels-last layout splits along the channels are copies, which is slower in fp32 on a CPU (measured).

    Shape: ``(N, 3, H, W)`` in [0, 1] to the same; H and W must be multiples of 32 and at least 64.
    """

    #: The authors publish the segmenter as a separate file.
    segmenter_files = ("pspnet_best.pt", "pspnet_latest.pt", "train_epoch_200_psp101.pth", "train_epoch_200.pth")

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
        #: Bytes of working memory per pixel, without gradients, in fp32 (measured at widths 8 and 32).
        self.memory_per_pixel = 110 * width + 250
        self._segmenter_loaded = False
        self.register_load_state_dict_pre_hook(_keep_segmenter)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> SGINet:
        """Set training mode; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.segmenter.eval()
        return self

    def forward(self, rainy: Tensor) -> Tensor:
        """Derain a batch."""
        coarse = self._coarse(rainy)
        with torch.no_grad():
            classes = self._class_maps(self.segmenter(coarse), coarse)[1]
        return self._refine(rainy, coarse, classes)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The keys of :meth:`stages`."""
        return ("coarse", "soft", "class_map", "refined")

    def stages(self, rainy: Tensor) -> dict[str, Tensor]:
        """All intermediate results.

        - ``coarse``: the output of FRM, ``(N, 3, H, W)`` in [0, 1];
        - ``soft``: the segmenter's soft map of it, ``(N, classes, H, W)`` in [0, 1], differentiable;
        - ``class_map``: the class of each pixel, ``(N, H, W)`` int64;
        - ``refined``: the derained image, as :meth:`forward` returns it.
        """
        coarse = self._coarse(rainy)
        soft, classes = self._class_maps(self.segmenter(coarse), coarse)
        refined = self._refine(rainy, coarse, classes)
        return {"coarse": coarse, "soft": soft, "class_map": classes, "refined": refined}

    def soft_segmentation(self, image: Tensor) -> Tensor:
        """The segmenter's soft map of an image, ``(N, 3, H, W)`` in [0, 1] to ``(N, classes, H, W)`` in [0, 1].

        ``(tanh(logit) + 1) / 2``, resized to the image: the input of the CSD loss (the authors' equation of
        L_seg). Differentiable with respect to the image.
        """
        return self._class_maps(self.segmenter(image), image)[0]

    def _class_maps(self, logits: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Soft map and class map, resized to the image."""
        soft = enlarge(_tanh_to_unit(logits), *image.shape[-2:])
        scores = soft if self.as_coded else enlarge(logits, *image.shape[-2:])
        return soft, scores.detach().argmax(dim=1)

    def _coarse(self, rainy: Tensor) -> Tensor:
        out = self.frm(255 * rainy)
        return (rainy + torch.tanh(out)).clamp(0, 1) if self.residual else _tanh_to_unit(out)

    def _refine(self, rainy: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        out = self.sim(255 * rainy, 255 * coarse, classes[:, None].to(coarse.dtype))
        return coarse + torch.tanh(out) if self.residual else _tanh_to_unit(out)

    def load_segmenter(self, state: Mapping[str, Tensor]) -> None:
        """Load the segmenter from its own state dictionary or from a published one; it stays frozen.

        ``derain.weights.official.read_checkpoint`` reads such files.

        Raises:
            RuntimeError: the tensors do not fit.
        """
        self.segmenter.load_state_dict(self.segmenter.rename_public(state))  # type: ignore[operator]
        self._segmenter_loaded = True

    @staticmethod
    def rename_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert an official checkpoint to derain's key names, without the unused convolutions.

        Raises:
            KeyError: the state has a key that official checkpoints do not have.
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
        """The settings of an official checkpoint; ``None`` if it belongs to another network."""
        first_weight = state.get("u_net_heavy.sementic_1.conv.weight")
        if first_weight is None:
            return None
        settings: dict[str, Any] = {"segmenter": "pspnet101", "as_coded": True}
        return settings if first_weight.shape[0] == 32 else {"width": first_weight.shape[0], **settings}


def _keep_segmenter(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Load hook: complete a state without a segmenter by the module's segmenter, if that one has been loaded."""
    assert isinstance(module, SGINet)
    segmenter_prefix = f"{prefix}segmenter."
    if any(key.startswith(segmenter_prefix) for key in state):
        module._segmenter_loaded = True
    elif module._segmenter_loaded:
        state.update({segmenter_prefix + key: value for key, value in module.segmenter.state_dict().items()})


def _official_names() -> dict[str, str | None]:
    """Official layer names to derain's; ``None`` for the unused convolutions."""
    light, heavy = "u_net_light", "u_net_heavy"
    names: dict[str, str | None] = {f"{light}.decoder_4": "frm.head", f"{heavy}.decoder_10": "sim.head"}
    for k in range(4):
        names[f"{light}.encoder_{k + 1}.conv"] = f"frm.encoder.{k}.0"
        names[f"{light}.middle.{k}.conv"] = f"frm.middle.{k}.0"
        for index in range(2):
            names[f"{heavy}.middle.{k}.layer_{index + 1}.conv"] = f"sim.middle.{k}.body.{index}.0"
    for k in range(3):
        names[f"{light}.decoder_{k + 1}.conv"] = f"frm.decoder.{k}.0"
    for level in range(5):
        for index in range(2):
            number = 2 * level + index + 1
            names[f"{heavy}.encoder_{number}.conv"] = f"sim.picture.{level}.{index}.0"
            names[f"{heavy}.sementic_{number}.conv"] = f"sim.semantic.{level}.{index}.0"
            names[f"{heavy}.decoder_{number}.conv"] = f"sim.decoder.{level}.{index + 1}.0"
        for scaling, ours in (("down", "picture.{}.2"), ("trans", "semantic.{}.2"), ("up", "decoder.{}.0")):
            old, new = f"{heavy}.{scaling}_{level + 1}", f"sim.{ours.format(level)}"
            names |= {f"{old}.context.fc.0": f"{new}.gate.0", f"{old}.context.fc.2": f"{new}.gate.2"}
            names[f"{old}.down"] = None if scaling == "up" else f"{new}.conv"
    return names
