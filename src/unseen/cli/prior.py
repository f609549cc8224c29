"""`unseen prior`: what content priors can draw, and small ones of our own."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, Set, app, progress_bar, say, show
from unseen.cli.opening import device_named
from unseen.errors import ConfigError, writing

if TYPE_CHECKING:
    import pandas

    from unseen.evaluation.ceiling import Ceiling
    from unseen.prior_training import PriorExperiment
    from unseen.priors import Prior
    from unseen.report.prior import Found

prior_app = typer.Typer(
    help="Content priors: pretrained generative models, what they can draw, and small ones of our own.",
    no_args_is_help=True,
)
app.add_typer(prior_app, name="prior")


@prior_app.command("check")
def check(
    prior: Annotated[
        str,
        typer.Argument(
            help="A folder of diffusers, a folder or file of the TAESD family, hub:owner/name, or a shipped one's name."
        ),
    ],
    on: Annotated[str, typer.Option(help="Folder of clean images, or embedded.")] = "embedded",
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.", min=1)] = None,
    holdout: Annotated[
        int, typer.Option(help="Only the last so many images of the folder, held out of training (0: all).", min=0)
    ] = 0,
    degradation: Annotated[
        list[str] | None, typer.Option(help="A named degradation; repeatable (default: medium and gaussian25).")
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies sizes in pixels: streaks, kernels; noise has none.")] = 0.5,
    size: Annotated[int, typer.Option(help="Images are cut to their centre, pixels a side.", min=1, max=4096)] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the degradations.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page and the rows.")] = Path("prior"),
    json_: Json = False,
) -> None:
    """Measure the ceiling of a prior: how well it gives images back, clean and degraded, and what that costs.

    Writes a page with the figures and pictures before and after. Degraded images are judged against themselves (how
    far they lie from what the prior can draw) and against the clean ones (what of the degradation does not pass).

    Example: `unseen prior check weights/taef2 --on photos/ --limit 48 -o taef2/`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations import preset
    from unseen.evaluation.ceiling import RECONSTRUCTION, ceiling, pictures
    from unseen.evaluation.suites import Suite
    from unseen.priors import PriorConfig, open_prior
    from unseen.report.prior import Found, Shot, numbers, sentences, write_prior

    chosen = device_named(device)
    if not prior or not on:
        raise ConfigError(f"{'--on' if prior else 'PRIOR'} is empty: name a folder.")
    names = list(dict.fromkeys(["medium", "gaussian25"] if degradation is None else degradation))
    suites = [Suite(name="clean"), *(Suite(name=name, degradation=preset(name, scale)) for name in names)]
    opened = open_prior(PriorConfig(source=prior), chosen)
    part = "test" if holdout or on == "embedded" else "train"
    images = Backgrounds(BackgroundsConfig(source=on, holdout=holdout, part=part))
    count = suites[0].size(images, limit)
    done = 0
    with progress_bar(json_) as draw:

        def progress(suite: str, more: int) -> None:
            nonlocal done
            done += more
            draw("images", done, count * len(suites), suite)

        measured = ceiling(opened, images, suites, crop=size, limit=limit, seed=seed, progress=progress)
        wanted = _wanted(measured.rows[measured.rows.experiment == RECONSTRUCTION], [suite.name for suite in suites])
        drawn = pictures(opened, images, suites, [(suite, image) for _, suite, image in wanted], crop=size, seed=seed)
    titles = [title for title, *_ in wanted]
    found = Found(
        name=opened.name,
        on=Path(on).name or on,
        images=count,
        facts=_facts(opened, measured, prior, size),
        rows=measured.rows,
        encoding=measured.encoding,
        decoding=measured.decoding,
        shots=tuple(
            Shot(title, one.suite, one.before, one.after, one.clean) for title, one in zip(titles, drawn, strict=True)
        ),
        command=shlex.join(["unseen", *sys.argv[1:]]),
    )
    with writing(out):
        page, said = write_prior(found, out), sentences(found)
    if json_:
        show(
            {
                "prior": opened.name,
                "content": opened.content,
                "stride": opened.stride,
                "channels": opened.channels,
                "discrete": opened.discrete,
                "parameters": _size(opened),
                "images": count,
                "sentences": said,
                **numbers(found),
                "seconds_per_megapixel": {"encode": measured.encoding, "decode": measured.decoding},
                "peak_memory": measured.memory,
                "codes_used": measured.codes_used,
                "page": page,
                "files": [out / "prior.parquet"],
            }
        )
        return
    _print(found)
    for sentence in said:
        say(sentence)
    print(page)


@prior_app.command("train")
def train(
    kind: Annotated[str, typer.Argument(help="vae, vqgan or diffusion.")],
    on: Annotated[
        list[str],
        typer.Option(metavar="DIR", help="Folder of clean images, or embedded (the default). Repeatable."),
    ] = [],  # noqa: B006
    holdout: Annotated[
        list[int],
        typer.Option(
            metavar="N",
            help="The last so many images of a folder are not trained on, and judged on (default: the last tenth). "
            "Repeatable: one for each folder, in their order, or one for all.",
        ),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the prior (default: priors/KIND-NAME).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with prior, recipe and the like.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.", min=0)] = None,
    set_: Set = [],  # noqa: B006
    licence: Annotated[str | None, typer.Option(help="Licence of the images, for the model card.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.", min=1)] = 200,
    json_: Json = False,
) -> None:
    """Train a small prior of your own on folders of images. The same command again resumes where it stopped.

    Writes a folder of diffusers, which `unseen prior check` and other tools open, with a model card that says on what
    it was trained, how, and how well it gives back images that it has not seen, and a picture.

    Example: `unseen prior train vqgan --on photos/ --steps 4000 --set prior.codes=512 -o small-vqgan/`
    """
    from unseen.prior_training import train_prior

    experiment = _prior_experiment(kind, on, holdout, config, steps, seed, set_)
    options = [("--on", on), ("--holdout", holdout), ("--set", set_)]
    given: list[tuple[str, object]] = [(name, value) for name, values in options for value in values]
    given += [("--config", config), ("--steps", steps), ("--seed", seed), ("--licence", licence)]
    words = [part for name, value in given if value is not None for part in (name, str(value))]
    with progress_bar(json_) as draw:
        trained = train_prior(
            experiment,
            out,
            command=shlex.join(["unseen", "prior", "train", kind, *words]),
            licence=licence,
            save_every=save_every,
            progress=draw,
        )
    found = trained.found
    if json_:
        show({"folder": trained.folder, **found})
        return
    say(f"{found['parameters']:,} parameters, {found['megabytes']:.1f} MB, {found['seconds'] / 60:.1f} minutes.")
    figures = found["figures"]
    if "psnr" in figures:
        say(
            f"Gives {figures['images']} images that were held out back at {figures['psnr']:.2f} dB; a classical coder "
            f"of as many {'codes' if 'codes' in figures else 'numbers'} at {figures['psnr_classical']:.2f} dB."
        )
    for line in figures.get("denoising", ()):
        say(f"Noise of {line['sigma']:g}: from {line['psnr_noisy']:.2f} dB to {line['psnr']:.2f} dB.")
    print(trained.folder)


def _prior_experiment(
    kind: str, on: list[str], holdout: list[int], config: Path | None, steps: int | None, seed: int | None,
    changes: list[str],
) -> "PriorExperiment":  # fmt: skip
    """What the options, and the file, say."""
    from unseen.prior_training import KINDS, PriorExperiment
    from unseen.study.study import apply_changes, checked, read_yaml, with_value

    if kind not in KINDS:
        raise ConfigError(f"There is no prior of the kind {kind!r} to train: choose one of {', '.join(KINDS)}.")
    raw: dict[str, Any] = {} if config is None else read_yaml(config)
    written = raw.get("prior", {})
    if isinstance(written, dict) and written.get("kind", kind) != kind:
        raise ConfigError(f"{config} is of the kind {written['kind']!r}, not {kind!r}: name the same kind twice.")
    backgrounds = _folders(on, holdout)
    if backgrounds is not None and isinstance(raw.get("backgrounds"), dict):  # the file's own, but for its folders
        own = {"source", "holdout", "parts"} | (set() if "parts" in backgrounds else {"weights"})
        backgrounds = {key: value for key, value in raw["backgrounds"].items() if key not in own} | backgrounds
    options = {"prior.kind": kind, "backgrounds": backgrounds, "recipe.steps": steps, "seed": seed}
    for key, value in options.items():
        if value is not None:
            raw = with_value(raw, key, value)
    return checked(PriorExperiment, apply_changes(raw, changes), str(config or "this prior"))


def _folders(on: list[str], holdout: list[int]) -> dict[str, Any] | None:
    """The backgrounds of the options; None where no folder is named."""
    from unseen.backgrounds import BackgroundsConfig, available

    if holdout and not on:
        raise ConfigError("--holdout is of a folder: name it with --on.")
    if len(holdout) not in (0, 1, len(on)):
        raise ConfigError(f"--holdout is given {len(holdout)} times for {len(on)} folders: once, or once for each.")
    kept = holdout * len(on) if len(holdout) == 1 else holdout or [None] * len(on)
    parts: list[dict[str, Any]] = []
    for source, last in zip(on, kept, strict=True):
        if last is None and source not in ("embedded", "leaves"):
            last = max(1, available(BackgroundsConfig(source=source)) // 10)
        parts.append({"source": source, "holdout": last or 0})
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else {"parts": parts}


def _wanted(rows: "pandas.DataFrame", suites: list[str]) -> list[tuple[str, str, str]]:
    """Title, suite and name of the images to show: of the clean ones the worst and the median, and the latter again
    under each degradation."""
    own = rows[(rows.metric == "psnr_rgb") & (rows.suite == suites[0])].sort_values(["value", "image"])
    names = own["image"].tolist()
    middle = names[len(names) // 2]
    shown = [("the median image", suite, middle) for suite in suites]
    return shown if len(names) == 1 else [("the worst image", suites[0], names[0]), *shown]


def _size(prior: "Prior") -> int:
    return sum(weight.numel() for weight in prior.parameters())


def _facts(prior: "Prior", measured: "Ceiling", source: str, size: int) -> tuple[tuple[str, str], ...]:
    memory = "not told by this system" if measured.memory is None else f"{measured.memory / 2**20:,.0f} MiB"
    where = "on the device" if next(prior.parameters()).device.type == "cuda" else "of the whole process"
    latents = f"{prior.channels} channels, a column for every {prior.stride} x {prior.stride} pixels"
    facts = [
        ("source", source),
        ("content", prior.content),
        ("latents", f"{latents}; {'discrete' if prior.discrete else 'continuous'}"),
        ("parameters", f"{_size(prior):,}"),
        ("peak memory", f"{memory} {where}"),
        ("images", f"cut to their centre, at most {size} pixels a side"),
    ]
    if prior.codebook is not None:
        facts.append(("codes met", f"{measured.codes_used:,} of {len(prior.codebook.weight):,}"))
    return tuple(facts)


def _print(found: "Found") -> None:
    """The table of reconstructions, for people."""
    from rich.console import Console
    from rich.table import Table

    from unseen.report.prior import RECONSTRUCTED, table

    heads, body = table(found.lines("reconstruction"), RECONSTRUCTED)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        shown.add_column(head, justify="right" if head else "left")
    for line in body:
        shown.add_row(*line)
    Console(stderr=True, width=None if sys.stderr.isatty() else 120, markup=False).print(shown)
