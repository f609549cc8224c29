"""`unseen export`: a network as a file that runs without this package."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.cli.opening import Dials, Priors, models_named
from unseen.errors import ConfigError


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="Shipped weights by name, a checkpoint, a run's folder, or published weights.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The file, .onnx or .pt2.", show_default="NAME.onnx or NAME.pt2")
    ] = None,
    format_: Annotated[
        Literal["onnx", "torch"] | None,
        typer.Option("--format", help="ONNX, or a program of torch.export.", show_default="by the file's suffix"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="H,W", help="For this size only, in pixels.", show_default="any size")
    ] = None,
    dial: Dials = None,
    prior: Priors = None,
    json_: Json = False,
) -> None:
    """Write a network as ONNX or torch.export, and check the file against the network.

    Example: `unseen export runs/0123456789ab -o net.onnx`
    """
    from unseen.models import Model
    from unseen.models.exporting import FORMATS, export
    from unseen.shipped import find_model
    from unseen.tensors import format_of

    if out is not None and format_ is not None and FORMATS.get(out.suffix.lower(), format_) != format_:
        raise ConfigError(f"--format is {format_}, and {out} has the suffix of another: leave one of the two out.")
    suffix = next(suffix for suffix, name in FORMATS.items() if name == (format_ or "onnx"))
    sides = None if size is None else _sides(size)
    source = find_model(model)
    path = Path(source).expanduser()
    if path.is_file() and (seen := format_of(path)) in ("onnx", "TorchScript", "torch.export"):
        opened = Model(name=path.name, restore=lambda images: images, kind=seen)  # is refused, and not executed
    else:
        opened = models_named([model], "cpu", precision="fp32", dials=dial, priors=prior)[0]
    target = Path(f"{opened.name}{suffix}") if out is None else out
    with progress_bar(json_) as draw:
        done = export(
            opened, target, size=sides, progress=lambda step, total: draw(f"export {opened.name}", step, total, "")
        )
    if json_:
        show(
            {
                "path": done.path,
                "format": done.format,
                "bytes": done.path.stat().st_size,
                "kind": opened.kind,
                "parameters": opened.parameters,
                "size": done.size,
                "smallest": done.smallest,
                "prior": done.prior,
                "difference": done.difference,
                "checked": [
                    {"images": images, "height": height, "width": width, "difference": difference}
                    for (images, height, width), difference in done.differences.items()
                ],
            }
        )
        return
    for (images, height, width), difference in done.differences.items():
        say(f"{images} x 3 x {height} x {width}: differs from the network by {difference:.1e} at most")
    takes = "images of any size" if done.size is None else f"images of {done.size[0]} x {done.size[1]} (h x w) alone"
    if done.size is None and done.smallest > 1:
        takes = f"images of any size from {done.smallest} x {done.smallest}"
    say(f"{opened.kind}, {done.path.stat().st_size / 1e6:.2f} MB, for {takes}; at most {done.difference:.1e} of 1 off.")
    if done.prior is not None:
        say(f"The file holds the weights of the prior {done.prior}: pass it on under the prior's licence too.")
    print(done.path)


def _sides(written: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[,x]([1-9]\d{0,4})", written)
    if match is None:
        raise ConfigError(f"--size is {written!r}: expected height and width in pixels, such as 64,64.")
    return int(match[1]), int(match[2])
