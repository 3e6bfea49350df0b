"""The public deraining sets: contents, origin, usual way of measuring.

Facts only; nothing is downloaded. ``derain data check`` and ``derain eval`` take a folder of any of them.
Facts that could not be established are marked as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from derain.data.layouts import Layout

UNKNOWN = "not established"
_BSD = "481×321 and 321×481; some copies lost a row and a column"
_YANG = "Yang et al., Deep Joint Rain Detection and Removal from a Single Image, CVPR 2017, arXiv 1609.07769"
_YANG_HOME = "http://www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html"
_PRENET_COPY = "https://github.com/csdwren/PReNet links the old release, which papers use"
_SGINET = "Wei et al., SGINet, ACM MM 2022"
_SAPNET = "Zheng et al., SAPNet, WACV workshops 2022, arXiv 2111.08892"


@dataclass(frozen=True)
class DatasetInfo:
    """One public set.

    Attributes:
        name: as papers write it.
        pairs: numbers of training and test pairs, or of real images.
        resolution: width × height.
        rain: the kind of rain.
        source: where its backgrounds come from.
        paper: authors and publication.
        home: its web page, or a page that links it.
        layout: its files on disk.
        option: the ``--layout`` it needs.
        protocol: how papers usually measure on it; see ``docs/guide/measurement.md``.
        terms: the authors' terms of use.
        note: pitfalls.
        aliases: other names of it or of its parts.
    """

    name: str
    pairs: str
    resolution: str
    rain: str
    source: str
    paper: str
    home: str
    layout: str
    option: Layout = "auto"
    protocol: str = "y"
    terms: str = "none stated; research"
    note: str = ""
    aliases: tuple[str, ...] = ()


CATALOG: tuple[DatasetInfo, ...] = (
    DatasetInfo(
        "Rain12",
        "12 test",
        UNKNOWN,
        "synthetic streaks, one direction",
        UNKNOWN,
        "Li et al., Rain Streak Removal Using Layer Priors, CVPR 2016",
        "https://yu-li.github.io",
        "rainy/N.png, groundtruth/N.png; or NNN_in.png, NNN_GT.png",
        note="a part of Rain13K's training data: no test set for networks trained on that",
    ),
    DatasetInfo(
        "Rain100L",
        "200 train (RainTrainL), 100 test",
        _BSD,
        "synthetic, light, one direction, added; gray streaks",
        "BSD",
        _YANG,
        f"{_YANG_HOME}; {_PRENET_COPY}",
        "rain-N.png, norain-N.png; or rain/X2/norain-Nx2.png, norain/norain-N.png; or input/N.png, target/N.png",
        note="two releases differ; test pairs 3 and 4, and 5 and 14, show one scene each",
        aliases=("RainTrainL",),
    ),
    DatasetInfo(
        "Rain100H",
        "1,800 train (RainTrainH), 100 test",
        _BSD,
        "synthetic, heavy, up to five directions, added; gray streaks",
        "BSD",
        _YANG,
        f"{_YANG_HOME}; {_PRENET_COPY}",
        "as Rain100L; rainy images also in rainy/ with the clean ones beside that folder",
        note="546 training pairs share backgrounds with the test set; 1,254 are left without them (PReNet). "
        "Its test backgrounds are Rain100L's",
        aliases=("RainTrainH",),
    ),
    DatasetInfo(
        "Rain200L and Rain200H",
        "1,800 train, 200 test each",
        _BSD,
        "synthetic, light and heavy",
        "BSD",
        _YANG,
        _YANG_HOME,
        "rain/X2/norain-Nx2.png, norain/norain-N.png",
        note="the newer release of Rain100L and Rain100H; scores on one say nothing about the other",
        aliases=("Rain200L", "Rain200H"),
    ),
    DatasetInfo(
        "Rain800",
        "700 train, 100 test",
        "varies",
        "synthetic (Photoshop)",
        "UCID and BSD",
        "Zhang, Sindagi and Patel, ID-CGAN, IEEE TCSVT 2020, arXiv 1701.05957",
        "https://github.com/hezhangsprinter/ID-CGAN",
        "N.jpg with the clean image in the left half; copies as input/, target/ need --layout auto",
        option="clean-left",
        note="its test part is called Test100 in Rain13K",
        aliases=("Test100",),
    ),
    DatasetInfo(
        "Rain1400",
        "12,600 train (900 scenes), 1,400 test (100 scenes)",
        "varies",
        "synthetic (Photoshop), 14 rains per scene",
        "UCID, BSD and web images",
        "Fu et al., Removing Rain from Single Images via a Deep Detail Network, CVPR 2017",
        "https://xueyangfu.github.io/projects/cvpr2017.html",
        "rainy_image/901_1.jpg, ground_truth/901.jpg",
        note="also called DDN-Data; the training part Rain12600. Rain13K splits it otherwise: 11,200 and Test2800",
        aliases=("DDN-Data", "Rain12600", "Rain14000"),
    ),
    DatasetInfo(
        "Rain1200",
        "12,000 train (4,000 of each density), 1,200 test",
        "512×512",
        "synthetic (Photoshop): light, medium, heavy",
        UNKNOWN,
        "Zhang and Patel, Density-aware Single Image De-raining (DID-MDN), CVPR 2018, arXiv 1802.07412",
        "https://github.com/hezhangsprinter/DID-MDN",
        "Rain_Heavy/train2018new/N.jpg and so on, with the rainy image in the left half",
        option="rainy-left",
        aliases=("DID-MDN", "DID-Data", "Test1200"),
    ),
    DatasetInfo(
        "Rain13K",
        "13,712 train; tests Test100 (98), Rain100H, Rain100L, Test2800, Test1200",
        "varies",
        "a collection of the synthetic sets",
        "Rain14000 (11,200), RainTrainH (1,800), Rain800 (700), Rain12 (12)",
        "Jiang et al., MSPFN, CVPR 2020, arXiv 2003.10985; Zamir et al., MPRNet, CVPR 2021, arXiv 2102.02808",
        "https://github.com/swz30/MPRNet (Deraining)",
        "train/Rain13K/{input,target}, test/Test100/{input,target} and so on",
        note="trains on RainTrainH with the 546 pairs whose backgrounds are Rain100L's and Rain100H's test: "
        "results on these two are not comparable with networks trained without them",
    ),
    DatasetInfo(
        "SPA-Data",
        "638,492 train patches out of 29,500 frames, 1,000 test",
        "256×256 train, 512×512 test",
        "real; ground truth estimated from video",
        "the authors' and web videos",
        "Wang et al., Spatial Attentive Single-Image Deraining, CVPR 2019, arXiv 1904.01538",
        "https://stevewongv.github.io/derain-project.html",
        "list files real_world.txt and real_test_1000.txt; test also as rain/NNN.png, gt/NNNgt.png",
        terms="BSD-like: keep the notice; names of the authors not for promotion",
        note="its authors measure with scikit-image, later papers with y",
        aliases=("SPANet",),
    ),
    DatasetInfo(
        "DDN-SIRR real",
        "147 real",
        UNKNOWN,
        "real, without ground truth",
        "web images",
        "Wei et al., Semi-supervised Transfer Learning for Image Rain Removal, CVPR 2019, arXiv 1807.11078",
        "https://github.com/wwzjer/Semi-supervised-IRR",
        "N.jpg",
        option="real",
        protocol="no reference",
        aliases=("SIRR", "SIRR real"),
    ),
    DatasetInfo(
        "DDN-SIRR synthetic",
        "400 test",
        UNKNOWN,
        "synthetic: dense and sparse streaks",
        "BSD",
        "Wei et al., Semi-supervised Transfer Learning for Image Rain Removal, CVPR 2019, arXiv 1807.11078",
        "https://github.com/wwzjer/Semi-supervised-IRR",
        "training in input/, label/; of the test part: not established",
        aliases=("SIRR synthetic", "DDN-SIRR_syn"),
    ),
    DatasetInfo(
        "MOSS real",
        "48 real, as SAPNet counts them",
        UNKNOWN,
        "real, without ground truth",
        UNKNOWN,
        "Huang, Yu and He, Memory Oriented Transfer Learning (MOSS), CVPR 2021",
        UNKNOWN,
        "single images",
        option="real",
        protocol="no reference",
        aliases=("MOSS",),
    ),
    DatasetInfo(
        "RainDrop",
        "861 train, 58 test A, 249 test B",
        "720×480",
        "real drops on glass in front of the lens",
        "the authors' photographs",
        "Qian et al., Attentive GAN for Raindrop Removal, CVPR 2018, arXiv 1711.10098",
        "https://github.com/rui1996/DeRaindrop",
        "train/data/N_rain.png, train/gt/N_clean.png; likewise test_a, test_b",
        note="drops, not streaks: another task. Some of its pairs are not aligned",
        aliases=("DeRaindrop",),
    ),
    DatasetInfo(
        "RainCityscapes",
        "9,432 train (262 scenes), 1,188 test (33 scenes)",
        "2048×1024",
        "synthetic streaks and fog by depth, 36 rains per scene",
        "Cityscapes",
        "Hu et al., Depth-Attentional Features for Single-Image Rain Removal, CVPR 2019",
        "https://www.cityscapes-dataset.com/downloads",
        "leftImg8bit_rain/…/X_leftImg8bit_rain_alpha_A_beta_B_dropsize_D_pattern_P.png beside Cityscapes' leftImg8bit/",
        terms="those of Cityscapes: non-commercial",
    ),
    DatasetInfo(
        "Cityscapes_syn",
        "2,975 train, 1,525 test, 500 val, at 100 mm and at 200 mm of rain an hour",
        "2048×1024",
        "synthetic on street scenes",
        "Cityscapes",
        _SGINET,
        UNKNOWN,
        "{train,test,val}/{100mm,200mm}/{rain,norain}/norain-NNN.png",
        protocol="y-downsampled",
        terms="those of Cityscapes: non-commercial",
        note="the 200 mm part was replaced in October 2022; SGINet chose its checkpoint by PSNR on the test part",
        aliases=("Cityscapes_syn 100mm", "Cityscapes_syn 200mm"),
    ),
    DatasetInfo(
        "COCO150",
        "150 test",
        UNKNOWN,
        "synthetic",
        "COCO",
        _SAPNET,
        "none found",
        UNKNOWN,
        protocol="detection after deraining",
        terms="not published",
    ),
    DatasetInfo(
        "CityScape150",
        "150 test",
        UNKNOWN,
        "synthetic",
        "Cityscapes",
        _SAPNET,
        "none found",
        UNKNOWN,
        protocol="segmentation after deraining",
        terms="not published",
    ),
)


def find_info(name: str) -> DatasetInfo | None:
    """The set of that name or alias in any spelling; ``None`` if there is none."""
    key = plain_name(name)
    return next((e for e in CATALOG if key in {plain_name(n) for n in (e.name, *e.aliases)}), None)


def plain_name(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
