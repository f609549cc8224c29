"""`unseen probe`: What a network's features tell of the degradation, and what of the content."""

from pathlib import Path
from typing import Annotated

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.cli.opening import Priors, models_named
from unseen.errors import ConfigError, writing


@app.command()
def probe(
    model: Annotated[list[str], typer.Argument(help="Checkpoints, runs' folders, or published weights of a network.")],
    degradation: Annotated[
        str | None, typer.Option(help="A named degradation to lay on (default: what the first was trained on).")
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies its sizes in pixels.")] = 0.5,
    images: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded test images).")
    ] = None,
    holdout: Annotated[
        int, typer.Option(help="Only the last so many images of the folder, held out of training (0: all).", min=0)
    ] = 0,
    patches: Annotated[int, typer.Option(help="Patches that probes are fitted to and judged on.", min=24)] = 240,
    size: Annotated[int, typer.Option(help="Side of a patch, pixels.", min=16, max=512)] = 48,
    seed: Annotated[int, typer.Option(help="Seed of patches and degradation.", min=0)] = 0,
    prior: Priors = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page.")] = Path("probe"),
    json_: Json = False,
) -> None:
    """Ask every layer of a network, by linear probes, what it knows of the degradation and what of the content.

    Example: `unseen probe runs/0123456789ab runs/ba9876543210 --degradation steep -o probe/`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations import Rain, preset
    from unseen.evaluation.probe import probe as probed
    from unseen.evaluation.probes import Probed
    from unseen.report.probe import sentences, table, write_probes

    opened = models_named(model, device, priors=prior)
    for source, one in zip(model, opened, strict=True):
        if one.network is None:
            raise ConfigError(
                f"{source} has no layers to look into: expected a checkpoint, or weights of a network here."
            )
    first = opened[0].experiment
    if degradation is None and (first is None or not first.synthetic):
        raise ConfigError(f"What {opened[0].name} was trained on is not known: name a degradation with --degradation.")
    laid = Rain() if first is None else first.met
    laid = laid if degradation is None else preset(degradation, scale)
    part = "test" if holdout or not images else "train"
    pool = Backgrounds(BackgroundsConfig(source=str(images or "embedded"), holdout=holdout, part=part))
    names = [
        one.name if sum(o.name == one.name for o in opened) == 1 else s for s, one in zip(model, opened, strict=True)
    ]
    found = []
    with progress_bar(json_) as draw:
        for name, one in zip(names, opened, strict=True):
            assert one.network is not None
            lines = probed(
                one.network, laid, pool, patches=patches, size=size, seed=seed,
                progress=lambda done, total, name=name: draw(f"probe {name}", done, total, ""),
            )  # fmt: skip
            found.append(Probed(name, laid.describe(), lines))
    with writing(out):
        page, said = write_probes(found, out), sentences(found)
    if json_:
        show({"sentences": said, "probes": table(found).to_dict("records"), "page": page,
              "files": [out / name for name in ("probe.csv", "probe.png")]})  # fmt: skip
        return
    for sentence in said:
        say(sentence)
    print(page)
