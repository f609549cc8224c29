"""`unseen preview`: A sheet of degraded images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.cli.app import Json, app, say, show

if TYPE_CHECKING:
    pass


@app.command()
def preview(
    images: Annotated[Path | None, typer.Argument(help="Folder of clean images (default: the embedded ones).")] = None,
    rain: Annotated[list[str] | None, typer.Option(help="Named rain; repeatable (default: all of them).")] = None,
    scale: Annotated[float, typer.Option(help="Multiplies widths and lengths of the rain.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.", min=16, max=1024)] = 192,
    seed: Annotated[int, typer.Option(help="Another seed, other rain.", min=0)] = 0,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the sheet is written.")] = Path("preview.png"),
    json_: Json = False,
) -> None:
    """Draw a sheet of degraded images, layers and masks: the first thing to look at.

    Example: `unseen preview photos/ --rain medium --rain steep -o sheet.png`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations.rain import PRESETS
    from unseen.evaluation.sheet import draw_sheet

    names = rain or list(PRESETS)
    config = BackgroundsConfig(source="embedded" if images is None else str(images))
    sheet = draw_sheet(Backgrounds(config), names, scale=scale, size=size, seed=seed, path=out)
    if json_:
        show({"path": out, "rains": sheet})
        return
    for item in sheet:
        unseen = [f"{train} ({', '.join(factors)})" for train, factors in item["outside"].items() if factors]
        outside = "; ".join(unseen) or "no training range"
        print(f"{item['name']:9} mask {item['mask']:4.0%}  {item['psnr_rgb']:5.2f} dB  outside of: {outside}")
    say(f"The sheet is {out}: for every rain the degraded image, the layer and the mask.")
