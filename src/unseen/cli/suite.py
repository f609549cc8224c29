"""`unseen suite`: what restorers are tested on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError

suite_app = typer.Typer(help="List the tests, write them to disk, and check them.", no_args_is_help=True)
app.add_typer(suite_app, name="suite")


@suite_app.command("list")
def suite_list(
    scale: Annotated[float, typer.Option(help="Multiplies the sizes, in pixels, of named degradations.")] = 0.5,
    json_: Json = False,
) -> None:
    """List named suites and collections, and which training ranges each lies outside of.

    Example: `unseen suite list`
    """
    from unseen.degradations import families, preset, preset_names, unseen_by
    from unseen.evaluation.suites import COLLECTIONS, PUBLIC, here

    outside = {name: ranges for family in families() for name, ranges in unseen_by(family, scale).items()}
    found: list[dict[str, Any]] = []
    for name in preset_names():
        described = preset(name, scale).describe()
        found.append({"name": name, "kind": "synthetic", "description": described, "outside": outside.get(name, {})})
    for name, suite in PUBLIC.items():
        described = suite.describe() if here(suite) else f"not on this machine: expected in {suite.pairs.folder}"
        found.append({"name": name, "kind": "pairs", "description": described, "outside": {"all": ["source"]}})
    if json_:
        show({"suites": found, "collections": {name: list(members) for name, members in COLLECTIONS.items()}})
        return
    for suite_ in found:
        ranges = [f"{range_} ({', '.join(map(str, its))})" for range_, its in suite_["outside"].items() if its]
        print(f"{suite_['name']:16} {suite_['description']}")
        if suite_["kind"] == "synthetic":
            print(f"{'':16} outside of: {'; '.join(ranges) or 'no training range'}")
    for name, members in COLLECTIONS.items():
        print(f"{name}: the mean over {', '.join(members)}")


@suite_app.command("export")
def suite_export(
    names: Annotated[list[str], typer.Argument(help="Named degradations, clean, or a collection: its synthetic ones.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder; each suite gets one of its name in it.")] = Path(
        "suites"
    ),
    images: Annotated[Path | None, typer.Option(help="Folder of clean images (default: embedded test images).")] = None,
    scale: Annotated[float, typer.Option(help="Multiplies the sizes, in pixels, of named degradations.")] = 0.5,
    crop: Annotated[int, typer.Option(help="Centre crop of the images, pixels a side.", min=1)] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other rain.", min=0)] = 0,
    json_: Json = False,
) -> None:
    """Write synthetic suites as PNG pairs with layers, masks and a manifest of hashes: others score on the same bits.

    Example: `unseen suite export unseen-rain --images photos/ -o suites/`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations import Rain
    from unseen.evaluation.export import export_suite
    from unseen.evaluation.suites import COLLECTIONS, Judge, Suite
    from unseen.study.study import checked

    config = BackgroundsConfig(part="test") if images is None else BackgroundsConfig(source=str(images))
    judge: Judge = checked(Judge, {"images": config, "scale": scale, "suites": names}, "the suites")
    suites = [suite for suite in judge.resolve(Rain.preset("medium", scale)) if isinstance(suite, Suite)]
    plain = [name for name in names if name not in COLLECTIONS]
    if missing := [name for name in plain if name not in {suite.name for suite in suites}]:
        raise ConfigError(f"{', '.join(missing)} lies on disk already: only synthetic suites are exported.")
    pool = Backgrounds(config)
    total = sum(suite.size(pool, limit) for suite in suites)
    written: dict[str, Path] = {}
    with progress_bar(json_) as draw:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            draw("export", done, total, "")

        for suite in suites:
            written[suite.name] = export_suite(
                suite, pool, out / suite.name, crop=crop, limit=limit, seed=seed, progress=progress
            )
    if json_:
        show({"suites": {name: {"manifest": path, "folder": path.parent} for name, path in written.items()}})
        return
    for path in written.values():
        print(path.parent)
    say("Judge on one with: unseen evaluate MODEL --on FOLDER. See that nothing changed: unseen suite check FOLDER.")


@suite_app.command("check")
def suite_check(
    folders: Annotated[list[Path], typer.Argument(help="Folders of exported suites.")],
    json_: Json = False,
) -> None:
    """See that every file of an exported suite is as it was written.

    Example: `unseen suite check suites/steep`
    """
    from unseen.evaluation.export import check_export

    found = {str(folder): check_export(folder) for folder in folders}
    if json_:
        show({folder: {"suite": m.suite["name"], "images": len(m.images)} for folder, m in found.items()})
        return
    for folder, manifest in found.items():
        print(f"{folder}: {manifest.suite['name']}, {len(manifest.images)} images, all as they were exported")
