"""The options of Rain2Avoid's scripts, translated to those of ``derain rain2avoid``."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

#: Options of the authors' scripts (docs/seeds.md) -> words of ours, with their value at {}.
AUTHORS_OPTIONS = {
    **dict.fromkeys(("--input_path", "--rainy_data_path", "--data_path"), "{}"),
    "--dataset": "dataset/{}",
    "--ldgp_path": "--ldgp={}",
    "--sdr_data_path": "--sdr={}",
    "--fuse_save_path": "--fuse={}",
    "--model_path": "--model={}",
    **dict.fromkeys(("--save_path", "--result_path", "--img_path"), "--output={}"),
}
#: The same of one command; without words they are accepted and have no effect.
AUTHORS_OPTIONS_OF = {
    ("online", "--sdr_data_path"): "",
    **{("train", name): "--model={}/model.safetensors" for name in ("--result_path", "--model_save_dir")},
    ("train", "--save_path"): "",
}


class AuthorsOptions(TyperGroup):
    """Also takes the options of the authors' scripts, which the help does not list."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, and the arguments left for it in our words."""
        words, rest = args[:1], iter(args[1:])
        for word in rest:
            option, equals, value = word.partition("=")
            template = AUTHORS_OPTIONS_OF.get((args[0], option), AUTHORS_OPTIONS.get(option))
            if template is None:
                words.append(word)
                continue
            value = value if equals else next(rest, "")
            if template:
                words.append(template.format(value))
            else:
                typer.echo(f"note: {option} has no effect on {args[0]}", err=True)
        return super().resolve_command(ctx, words)
