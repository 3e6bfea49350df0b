"""The public deraining sets: what each holds, who made it, how it is usually measured.

Facts only; nothing is downloaded. ``derain data check`` and ``derain eval`` take a folder of any of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """One public set.

    Attributes:
        name: as papers write it.
        pairs: training and test pairs, or real pictures, in words.
        rain: what kind of rain it shows.
        paper: who made it, where.
        layout: how it lies on disk, and the ``--layout`` it needs if not ``auto``.
        protocol: how papers usually measure on it; see ``docs/measurement.md``.
        terms: what its makers say of its use.
        note: what to beware of.
    """

    name: str
    pairs: str
    rain: str
    paper: str
    layout: str
    protocol: str = "y"
    terms: str = "research; none stated"
    note: str = ""


CATALOG: tuple[DatasetInfo, ...] = (
    DatasetInfo(
        "Rain12",
        "12 test",
        "synthetic streaks",
        "Li et al., Rain Streak Removal Using Layer Priors, CVPR 2016",
        "rainy/N.png, groundtruth/N.png",
    ),
    DatasetInfo(
        "Rain100L",
        "200 train, 100 test",
        "synthetic, light, one direction",
        "Yang et al., CVPR 2017, arXiv 1609.07769",
        "rain-N.png and norain-N.png, or rain/X2/norain-NNNx2.png and norain/norain-NNN.png",
        note="two releases differ; papers use the old one. Test pairs 3 and 4, and 5 and 14, show one scene each",
    ),
    DatasetInfo(
        "Rain100H",
        "1,800 train, 100 test",
        "synthetic, heavy, up to five directions",
        "Yang et al., CVPR 2017, arXiv 1609.07769",
        "as Rain100L",
        note="546 training pairs share backgrounds with the test set: 1,254 are left without them (PReNet)",
    ),
    DatasetInfo(
        "Rain800",
        "700 train, 100 test",
        "synthetic (Photoshop)",
        "Zhang et al., ID-CGAN, arXiv 1701.05957",
        "both halves in one picture: say --layout; or input/(N).jpg, target/(N).jpg",
        note="its test half is also called Test100",
    ),
    DatasetInfo(
        "Rain1400",
        "12,600 train, 1,400 test",
        "synthetic, 14 rains a scene",
        "Fu et al., Removing Rain from Single Images via a Deep Detail Network, CVPR 2017",
        "rainy_image/901_1.jpg, ground_truth/901.jpg",
        note="also called DDN-Data or Rain12600",
    ),
    DatasetInfo(
        "Rain1200",
        "12,000 train, 1,200 test",
        "synthetic, three densities",
        "Zhang and Patel, DID-MDN, CVPR 2018, arXiv 1802.07412",
        "both halves in one picture: say --layout",
    ),
    DatasetInfo(
        "Rain13K",
        "13,712 train; tests Test100, Rain100H, Rain100L, Test2800, Test1200",
        "a collection of the synthetic sets",
        "Jiang et al., MSPFN, CVPR 2020, arXiv 2003.10985",
        "input/N.png, target/N.png",
        note="its training part holds Rain100H training pairs with test backgrounds",
    ),
    DatasetInfo(
        "SPA-Data",
        "about 638,500 train patches, 1,000 test",
        "real; truth from video",
        "Wang et al., Spatial Attentive Single-Image Deraining, CVPR 2019, arXiv 1904.01538",
        "rain/, norain/ or two folders with --clean",
    ),
    DatasetInfo(
        "DDN-SIRR",
        "147 real, 400 synthetic test",
        "real, without truth; synthetic",
        "Wei et al., CVPR 2019, arXiv 1807.11078",
        "N.jpg; no pairs for the real ones",
        protocol="no reference for the real ones",
    ),
    DatasetInfo(
        "RainDrop",
        "861 train, 58 + 249 test",
        "real drops on the lens",
        "Qian et al., CVPR 2018, arXiv 1711.10098",
        "two folders: data/ and gt/, with --clean",
        note="drops, not streaks: another task",
    ),
    DatasetInfo(
        "RainCityscapes",
        "9,432 train, 1,188 test",
        "synthetic with fog by depth",
        "Hu et al., Depth-Attentional Features for Single-Image Rain Removal, CVPR 2019",
        "several rains a scene; two folders with --clean",
        terms="those of Cityscapes",
    ),
    DatasetInfo(
        "Cityscapes_syn",
        "2,975 train, 1,525 test, 500 val at 100 mm and 200 mm",
        "synthetic on street scenes",
        "Wei et al., SGINet, ACM MM 2022",
        "rain/norain-N.png, norain/norain-N.png",
        protocol="y-downsampled",
        terms="those of Cityscapes",
    ),
)
