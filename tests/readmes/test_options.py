"""The tables of options in docs/seeds.md: none is missing, and our fields have these names and accept these values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from derain.models import create_model
from derain.training.recipe_files import load_recipe

SEEDS = (Path(__file__).parents[2] / "docs" / "seeds.md").read_text(encoding="utf-8")
#: Section -> recipe that the fields are appended to.
RECIPES = {"SAPNet": "sapnet-authors", "SGINet": "sginet-authors", "JDNet": "jdnet"}
#: Section -> all options of the authors' option.py and test.py, or fields of their settings.py.
OPTIONS = {
    "SAPNet": """--preprocess --batch_size --epochs --milestone --lr --save_path --save_freq --test_data_path
        --output_path --data_path --use_contrast --use_lpis --use_stage1 --use_seg_stage1 --use_dilation
        --recurrent_iter --num_of_SegClass""",
    "SGINet": """--debug --template --n_threads --cpu --gpu --n_GPUs --seed --dir_data --dir_demo --data_train
        --data_test --data_range --ext --scale --patch_size --rgb_range --n_colors --no_augment --model_dir --model
        --act --pre_train --extend --n_resblocks --n_feats --res_scale --shift_mean --dilation --precision --num_M
        --num_Z --T --stage --input_dim_a --input_dim_b --output_dim_a --output_dim_b --nz --output_nc --norm_layer
        --nl_layer --test_every --epochs --batch_size --split_batch --test_only --reset --lr --lr_decay --decay_type
        --gamma --optimizer --momentum --beta1 --beta2 --epsilon --weight_decay --loss --skip_threshold --save
        --load --resume --save_models --print_every --save_results --data_path --S --use_GPU --gpu_id --save_path""",
    "JDNet": """-m1 --model_1 -m --model channel feature_map_num res_conv_num unit_num num_scale_attention
        scale_attention ssim_loss aug_data patch_size pic_is_pair lr data_dir log_dir show_dir model_dir
        show_dir_feature log_level model_path save_steps num_workers num_GPU device_id epoch batch_size l1 l2""",
}


def body_of(section: str) -> str:
    parts = re.split(r"\n## (\w+)\n", SEEDS)
    return parts[parts.index(section) + 1]


def fields_of(section: str) -> list[str]:
    """``field=value`` in the second column of the tables."""
    rows = [line.split(" | ", 1)[1] for line in body_of(section).splitlines() if " | " in line]
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    return [span for span in spans if re.match(r"[a-z_.0-9]+=", span)]


@pytest.mark.parametrize("section", OPTIONS)
def test_no_option_is_missing(section):
    named = set(re.findall(r"`([\w-]+)`", body_of(section)))
    assert set(OPTIONS[section].split()) <= named


@pytest.mark.parametrize("section", RECIPES)
def test_each_field_is_accepted(section):
    fields = fields_of(section)
    assert "schedule.epochs=" in " ".join(fields)
    for field in fields:
        recipe = load_recipe(RECIPES[section], [field])
        path, _, value = field.partition("=")
        found = recipe.model_dump(mode="json")
        for part in path.split("."):
            found = found[int(part) if isinstance(found, list) else part]
        expected = yaml.safe_load(value)
        if path == "losses":
            assert [loss["name"] for loss in found] == [loss["name"] for loss in expected]
        else:
            assert found == (float(expected) if isinstance(found, float) else expected), field
        if path.startswith("model.settings."):
            create_model(recipe.model.name, **recipe.model.settings)
