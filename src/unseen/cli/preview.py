"""`unseen preview`: A sheet of degraded images."""

from pathlib import Path
from typing import Annotated

import typer

from unseen.cli.app import Json, app, say, show


@app.command()
def preview(
    images: Annotated[Path | None, typer.Argument(help="Folder of clean images (default: the embedded ones).")] = None,
    degradation: Annotated[
        list[str] | None,
        typer.Option("--degradation", "--rain", help="A named degradation; repeatable (default: all of the family)."),
    ] = None,
    family: Annotated[str, typer.Option(help="Where none is named: all of rain, of noise, ...")] = "rain",
    scale: Annotated[float, typer.Option(help="Multiplies sizes in pixels: streaks, kernels; noise has none.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.", min=16, max=1024)] = 192,
    seed: Annotated[int, typer.Option(help="Another seed, other draws.", min=0)] = 0,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the sheet is written.")] = Path("preview.png"),
    json_: Json = False,
) -> None:
    """Draw a sheet of degraded images, layers and masks: the first thing to look at.

    Example: `unseen preview photos/ --degradation steep --degradation poisson -o sheet.png`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations import preset_names
    from unseen.evaluation.sheet import draw_sheet

    names = degradation or preset_names(family)
    config = BackgroundsConfig(source="embedded" if images is None else str(images))
    sheet = draw_sheet(Backgrounds(config), names, scale=scale, size=size, seed=seed, path=out)
    if json_:
        show({"path": out, "degradations": sheet})
        return
    wide = max(len(item["name"]) for item in sheet)
    for item in sheet:
        unseen = [f"{train} ({', '.join(factors)})" for train, factors in item["outside"].items() if factors]
        outside = "; ".join(unseen) or "no training preset"
        print(f"{item['name']:{wide}} mask {item['mask']:4.0%}  {item['psnr_rgb']:5.2f} dB  outside of: {outside}")
    say(f"The sheet is {out}: for every degradation the degraded image, the layer and the mask.")
