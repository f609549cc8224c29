"""`unseen evaluate`: judge any restorer on any suites."""

import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.cli.opening import Dials, Priors, device_named, models_named
from unseen.errors import ConfigError, writing

if TYPE_CHECKING:
    import pandas

    from unseen.backgrounds import BackgroundsConfig
    from unseen.degradations import AnyDegradation
    from unseen.evaluation.restored import RestoredFolder
    from unseen.evaluation.suites import Judge
    from unseen.experiment import Experiment
    from unseen.models import Model
    from unseen.pair_folder import PairFolderConfig
    from unseen.results import ModelInfo, Result
    from unseen.types import Restorer

FOREIGN = ("medium", "unseen-rain", "clean")
"""What is judged on by default where a model does not tell what it was trained on: it has no "seen" of its own."""


@dataclass(frozen=True)
class Candidate:
    """A model to judge. `lineage`, all experiments it has been through, and `path` are of our own checkpoints."""

    info: "ModelInfo"
    restorer: "Restorer | RestoredFolder"
    lineage: "tuple[Experiment, ...]" = ()
    path: Path | None = None

    @property
    def experiment(self) -> "Experiment | None":
        return self.lineage[-1] if self.lineage else None

    @property
    def trained(self) -> "AnyDegradation | None":
        """All that it has met, as one."""
        from unseen.experiment import all_met

        return all_met(self.lineage)

    @property
    def pairs(self) -> "tuple[PairFolderConfig, ...] | None":
        """The folders it was trained on; None where that is not known."""
        if not self.lineage:
            return None
        return tuple(folder for one in self.lineage if one.pairs is not None for folder in one.pairs.folders)


@app.command()
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints, folders of runs, published weights, ONNX files (docs/models.md), identity, median, box."
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="A suite's name or a collection (`unseen suite list`), a folder of pairs, or a YAML of suites; "
            "repeatable (default: seen, what is unseen of its family, clean; medium, unseen-rain, clean of others)."
        ),
    ] = None,
    restored: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of images that another tool has restored, judged like a model; repeatable."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of clean images under synthetic suites (default: those held out of the training)."),
    ] = None,
    seen: Annotated[
        list[str] | None,
        typer.Option(
            help="A suite that models from elsewhere were trained on, or none; repeatable. All others are unseen."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Multiplies the sizes, in pixels, of named degradations.", show_default="0.5"),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Centre crop of images under synthetic suites, pixels a side.", min=1, show_default="256"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images of each suite.", min=1)] = None,
    color: Annotated[
        str | None,
        typer.Option(
            help="What PSNR is read on for folders of pairs: y or rgb.",
            show_default="that of an exported suite; else y",
        ),
    ] = None,
    border: Annotated[int, typer.Option(help="Pixels at each side of pairs that are not scored.", min=0)] = 0,
    align: Annotated[bool, typer.Option("--align", help="Move pairs by fractions of pixels before scoring.")] = False,
    always: Annotated[
        bool, typer.Option("--always", help="Also restore what a model takes for clean and would leave as it is.")
    ] = False,
    dial: Dials = None,
    prior: Priors = None,
    trust: Annotated[bool, typer.Option("--trust", help="Load models whose files execute code.")] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Judge on images that were trained on, and mark the result.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    rows: Annotated[Path | None, typer.Option(help="Also write every row to this Parquet file.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also write a page, tables and result files to this folder.")
    ] = None,
    json_: Json = False,
) -> None:
    """Judge restorers on seen and unseen degradations: removal and reconstruction apart, baselines beside them.

    Example: `unseen evaluate runs/0123456789ab weights.pth --on unseen-rain --on pairs/rain100h -o verdict/`
    """
    import pandas

    from unseen.backgrounds import Backgrounds
    from unseen.evaluation.benchmark import Benchmark, worst_images
    from unseen.report.verdict import sentences, write_verdict
    from unseen.results import write_result
    from unseen.rows import write_rows

    opened = models_named(models or [], device, trust=trust, dials=dial, priors=prior)
    candidates = _candidates(opened, restored or [], always)
    convention = {"border": border, "align": align, **({} if color is None else {"color": color})}
    asked, config = _judge(candidates, on, images, scale, crop, limit, convention)
    judge: Judge = asked
    if absent := judge.absent:
        say(f"Not on this machine, and left out of the mean: {', '.join(absent)} (docs/data.md).")
    benchmark = Benchmark(
        judge,
        None if config is None else Backgrounds(config),
        None if seen is None else tuple(name for name in seen if name != "none"),
        _environment(device),
        shlex.join(["unseen", *sys.argv[1:]]),
        _date(),
    )
    known = {info.name for info in benchmark.infos(None)} | {"seen", "none"}
    if strange := [name for name in seen or () if name not in known]:
        raise ConfigError(f"--seen {strange[0]}: no such suite is judged. Judged are: {', '.join(sorted(known))}.")
    for info in benchmark.suites(None):
        if hasattr(info, "pairs"):
            _say_pairs(info)
    found = {
        candidate.info.name: _leaks(candidate, benchmark, allow_leaks) for candidate in candidates
    }  # before anything is judged
    results, tables, pictures, page = [], [], [], None
    ceilings: dict[str, str] = {}
    with progress_bar(json_) as draw:
        for candidate in candidates:
            name, trained, done = candidate.info.name, candidate.trained, 0
            total = benchmark.size(trained)

            def progress(suite: str, count: int) -> None:
                nonlocal done
                done += count
                draw(f"evaluate {name}", done, total, suite)  # noqa: B023

            leaks, note = found[name]
            note = (*note, *_ceilings(candidate, benchmark, device, ceilings, draw))
            result, table = benchmark.run(
                candidate.info,
                candidate.restorer,
                trained,
                pairs=candidate.pairs,
                leaks=leaks,
                notes=note,
                progress=progress,
            )
            results.append(result)
            tables.append(table)
            if out is not None:  # at once: whatever stops the next one, this is kept
                write_result(result, out / "results" / f"{name}.json")
        if out is not None:
            wanted = worst_images(pandas.concat(tables), [candidate.info.name for candidate in candidates])
            total = sum(map(len, wanted.values())) * len(candidates)
            for candidate in candidates:
                for picture in benchmark.pictures(candidate.info.name, candidate.restorer, candidate.trained, wanted):
                    pictures.append(picture)
                    draw("pictures", len(pictures), total, picture.suite)
            draw("pictures", total, total, "")
    everything = pandas.concat(_told_apart(results, tables), ignore_index=True)
    everything = everything.drop_duplicates(["experiment", "step", "suite", "image", "metric"], ignore_index=True)
    if rows is not None:
        with writing(rows):
            write_rows(everything, rows)
    if out is not None:
        with writing(out):
            page = write_verdict(results, pictures, out)
    said = sentences(results)
    if json_:
        show(_as_json(candidates, results, everything, said, page))
        return
    for result, table in zip(results, tables, strict=True):
        _print_summary(table, {suite.name: suite.group for suite in result.suites})
    for line in (*said, *ceilings.values()):
        say(line)
    if page is not None:
        say("The page:")
        print(page.resolve())


def _told_apart(results: "list[Result]", tables: "list[pandas.DataFrame]") -> "list[pandas.DataFrame]":
    """The rows, with "seen" named after its model where models have seen different things: its baselines are too."""
    seen = {suite.content for result in results for suite in result.suites if suite.name == "seen"}
    if len(seen) < 2:
        return tables
    return [
        table.assign(suite=table["suite"].replace("seen", f"seen by {result.model.name}"))
        for result, table in zip(results, tables, strict=True)
    ]


def _candidates(models: "list[Model]", restored: list[Path], always: bool = False) -> list[Candidate]:
    """What is judged, with names that differ. `always`: without a reject option, and called so."""
    from unseen.evaluation.restored import RestoredFolder
    from unseen.models import always_restoring
    from unseen.results import ModelInfo

    if not models and not restored:
        raise ConfigError("There is nothing to judge: name a model, or a folder of restored images with --restored.")
    found: list[Candidate] = []
    for opened in models:
        model = always_restoring(opened) if always else opened
        trained_on = "; before that ".join(map(_trained_on, reversed(model.lineage))) or None
        info = ModelInfo(
            name=model.name if model is opened else f"{model.name}-always",
            kind=model.kind,
            parameters=model.parameters,
            content=model.content,
            trained_on=trained_on,
            step=model.step,
        )
        found.append(Candidate(info, model.restore, model.lineage, model.path))
    for folder in restored:
        if not folder.is_dir():
            raise ConfigError(f"--restored {folder}: there is no such folder.")
        found.append(Candidate(ModelInfo(name=folder.resolve().name, kind="restored images"), RestoredFolder(folder)))
    names: dict[str, int] = {}
    for index, candidate in enumerate(found):
        name = candidate.info.name.strip().lstrip("=+-@ ") or "model"
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}-{names[name]}"
        if name != candidate.info.name:
            info = candidate.info.model_copy(update={"name": name})
            found[index] = replace(candidate, info=info)
    return found


def _trained_on(experiment: "Experiment") -> str:
    said = [experiment.degradation.describe()] if experiment.synthetic else []
    if experiment.pairs is not None:
        folders = ", ".join(Path(config.folder).name for config in experiment.pairs.folders)
        said.append(f"pairs of {folders} ({experiment.pairs.share:.0%} of samples)")
    return "; ".join(said)


def _judge(
    candidates: list[Candidate],
    on: list[str] | None,
    images: Path | None,
    scale: float | None,
    crop: int | None,
    limit: int | None,
    convention: dict[str, Any],
) -> "tuple[Judge, BackgroundsConfig | None]":
    """What is judged on, and the clean images for its synthetic suites (None: there are none)."""
    from unseen.backgrounds import BackgroundsConfig
    from unseen.degradations import Rain, preset_names
    from unseen.evaluation.suites import COLLECTIONS, PUBLIC, Judge, Suite
    from unseen.study.study import checked, read_yaml

    ours = [candidate for candidate in candidates if candidate.trained is not None]
    own = len(candidates) == len(ours) == 1
    raw: dict[str, Any] = {"scale": 0.5, "crop": 256}
    entries: list[Any] = []
    known = {"seen", "clean", *COLLECTIONS, *PUBLIC, *preset_names()}
    for name in on or (_everything(ours[0]) if own else FOREIGN):
        if name.endswith((".yaml", ".yml")):
            listed = read_yaml(Path(name))
            suites = listed.pop("suites", None) or []
            if not isinstance(suites, list):
                raise ConfigError(f"{name}: suites is {suites!r}; expected a list, [{suites}].")
            entries += suites
            raw |= listed
        elif os.sep in name or (Path(name).is_dir() and name not in known):
            folder = Path(name)
            if not folder.is_dir():
                raise ConfigError(f"--on {name}: there is no such folder.")
            entries.append({"name": _suite_name(folder), "pairs": {"folder": str(folder)}, **convention})
        else:
            entries.append(name)
    turned = [option for option, value in convention.items() if value]
    if turned and not any(isinstance(entry, dict) and entry.get("pairs") for entry in entries):
        raise ConfigError(
            f"--{turned[0]} is for folders of pairs, and none is named with --on: leave it out, or name one."
        )
    given = {"scale": scale, "crop": crop, "limit": limit}
    raw |= {key: value for key, value in given.items() if value is not None}  # what is typed goes before what is listed
    judge: Judge = checked(Judge, {**raw, "suites": entries}, "the evaluation")
    if "seen" in judge.suites and len(ours) < len(candidates):
        raise ConfigError(
            'Models from elsewhere do not tell what they have "seen". Name suites with --on, e.g. medium, and say '
            "which of them they were trained on with --seen."
        )
    if not any(isinstance(suite, Suite) for suite in judge.resolve(Rain.preset("medium", judge.scale))):
        return judge, None
    if images is not None:
        config = BackgroundsConfig(source=str(images))
    elif "images" in raw:
        config = judge.images
    elif not ours:
        config = BackgroundsConfig(part="test")
    else:
        trained = ours[0].experiment
        assert trained is not None
        if not trained.backgrounds.has_tests:
            raise ConfigError(
                "This model held no images out of its training. Name a folder of test images with --images, or train "
                "with --set backgrounds.holdout=20."
            )
        config = trained.backgrounds.tests()
    for candidate in ours:
        met = [experiment.backgrounds for experiment in candidate.lineage if experiment.synthetic]
        if any(backgrounds.shares_images_with(config) for backgrounds in met):
            raise ConfigError(
                f"{', '.join(one.source for one in config.sources)} holds the images {candidate.info.name} was "
                "trained on: what it does to them says "
                "nothing. Leave --images out for the ones it held out, or name another folder."
            )
    return judge.model_copy(update={"images": config}), config


def _everything(candidate: Candidate) -> tuple[str, ...]:
    """What a checkpoint of ours is judged on by default: its own degradation, and the unseen ones of its family, or
    families."""
    from unseen.evaluation.suites import COLLECTIONS

    assert candidate.trained is not None
    collections = (f"unseen-{family}" for family in candidate.trained.families)
    return "seen", *(collection for collection in collections if collection in COLLECTIONS), "clean"


def _suite_name(folder: Path) -> str:
    import re

    name = re.sub(r"[^A-Za-z0-9 _.-]", "-", folder.resolve().name).lstrip("-_. ") or "pairs"
    return f"{name} pairs" if name in ("seen", "clean") else name  # these are suites already


def _say_pairs(suite: Any) -> None:
    """How a folder of pairs was read, and what of it was left out."""
    folder = suite.open()
    say(f"{suite.name}: {folder.layout}")
    for what, left in (
        ("without a partner", folder.unmatched),
        ("of another size than its partner", folder.mismatched),
    ):
        if left:
            more = f", and {len(left) - 5} more" if len(left) > 5 else ""
            say(f"{suite.name}: left out {what}: {'; '.join(left[:5])}{more}")


def _leaks(candidate: Candidate, benchmark: Any, allowed: bool) -> tuple[Any, tuple[str, ...]]:
    """Which of the images judged on were trained on, as far as that can be known; refused unless allowed."""
    from unseen.leaks import find_leaks, fingerprints, refuse_leaks
    from unseen.training_images import training_fingerprints

    if candidate.experiment is None or candidate.path is None:
        return None, ()
    trained = training_fingerprints(candidate.lineage, candidate.path.parent)
    if trained is None:
        say(f"{candidate.info.name}: its training images are not on this machine, so leaks were not looked for.")
        return None, ("The training images were not at hand: leaks were not looked for.",)
    leaks = find_leaks(trained, fingerprints(benchmark.clean_images()))
    refuse_leaks(leaks, allowed, candidate.info.name)
    return leaks, ()


def _ceilings(candidate: Candidate, benchmark: Any, device: str, known: dict[str, str], draw: Any) -> list[str]:
    """A sentence for each prior that a network works with; `known`, by content, are said once for all networks."""
    from unseen.evaluation.ceiling import ceiling_on, priors_in

    if candidate.experiment is None:
        return []
    judge, priors = benchmark.judge, priors_in(candidate.experiment.network)
    for prior in priors:
        if prior.content not in known:
            known[prior.content] = ceiling_on(
                prior, benchmark.suites(candidate.trained), benchmark.images, crop=judge.crop, limit=judge.limit,
                device=device_named(device), progress=lambda done, total: draw("ceiling of a prior", done, total, ""),
            )  # fmt: skip
    return [known[prior.content] for prior in priors]


def _environment(device: str) -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    import torch

    from unseen.experiment import best_device
    from unseen.training import processor

    chosen = best_device() if device == "auto" else device
    return {
        "unseen": version("unseen"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "device": torch.cuda.get_device_name() if chosen == "cuda" else chosen,
        "threads": torch.get_num_threads(),
    }


def _date() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%d")


def _as_json(candidates: list[Candidate], results: Any, rows: Any, said: list[str], page: Path | None) -> Any:
    from unseen.rows import summarise_with_intervals

    return {
        "models": [
            {
                **result.model.model_dump(mode="json"),
                "sentence": sentence,
                "seconds_per_megapixel": result.seconds_per_megapixel,
                "notes": list(result.notes),
                "leaks": None if result.leaks is None else [leak.model_dump() for leak in result.leaks],
                "suites": {
                    suite.name: {"group": suite.group, "outside": list(suite.outside), "content": suite.content}
                    for suite in result.suites
                },
            }
            for result, sentence in zip(results, said, strict=True)
        ],
        "results": summarise_with_intervals(rows),
        "page": page,
    }


COLUMNS = {
    "psnr_rgb": "PSNR",
    "gain_rgb": "gain",
    "psnr_y": "PSNR Y",
    "ssim_y": "SSIM Y",
    "removal_ratio": "removed",
    "residual": "residual",
    "removal": "E_R",
    "reconstruction": "E_B",
}
"""What the table of `evaluate` shows, and how its columns are headed."""

WITHOUT_MASK = {
    "psnr_rgb": "PSNR",
    "gain_rgb": "gain",
    "ssim_rgb": "SSIM",
    "retention": "retained",
    "orthogonal_error": "orthogonal",
    "bias": "bias",
    "deviation": "deviation",
}
"""The same where no suite is of rain: the mask of noise covers nearly everything."""

STARS = {"unseen": "*", "unknown": "?"}


def _print_summary(rows: Any, groups: dict[str, str]) -> None:
    """Of rain, and of noise and blur: one line per suite and restorer, and the means over those that are seen and those
    that are unseen."""
    from rich.console import Console

    from unseen.rows import summarise

    summary = summarise(rows)
    by_octaves = set(summary[summary.error_under4.notna()].suite)  # of all that is not rain
    degraded = [suite for suite, group in groups.items() if group != "clean"]
    with_mask = [suite for suite in degraded if suite not in by_octaves]
    without = [suite for suite in degraded if suite in by_octaves]
    clean = [suite for suite, group in groups.items() if group == "clean"]
    console = Console(width=None if sys.stdout.isatty() else 100)
    if with_mask or not without:
        console.print(_summary_table(summary, groups, [*with_mask, *clean], COLUMNS))
    if without:
        console.print(_summary_table(summary, groups, [*without, *([] if with_mask else clean)], WITHOUT_MASK))
    say("* unseen: outside what the model was trained on (?: not known). PSNR and gain over the input in dB, RGB.")
    if with_mask or not without:
        say(
            "Y: of BT.601. removed: removal ratio, 0 did nothing, 1 removed the degradation's component; residual, E_B:"
        )
        say("lower is better.")
    if without:
        say("retained: of the degradation, 1 did nothing; orthogonal: error that is not the degradation's; bias: what")
        say("was done to the content; deviation: noise that leaked through; lower is better.")


def _summary_table(summary: Any, groups: dict[str, str], suites: list[str], columns: dict[str, str]) -> Any:
    from rich.table import Table

    from unseen.rows import display, mean_over

    names = list(dict.fromkeys(summary.experiment))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("suite", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title in columns.values():
        table.add_column(title, justify="right", no_wrap=True)

    def add(title: str, lines: Any) -> None:
        for number, name in enumerate(names):
            line = lines[lines.experiment == name].iloc[0]
            values = [
                "-" if group == "clean" and quantity == "gain_rgb" else display(quantity, line[quantity])
                for quantity in columns
            ]
            table.add_row(title if number == 0 else "", name, *values, end_section=name == names[-1])

    for group in ("seen", "unseen", "unknown", "clean"):
        its = [suite for suite in suites if groups[suite] == group]
        for suite in its:
            add(f"{suite}{STARS.get(group, '')}", summary[summary.suite == suite])
        if len(its) > 1:
            add(f"MEAN {group}", mean_over(summary, its))
    return table
