"""`unseen restore`: Restore images."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError, UnseenError

if TYPE_CHECKING:
    pass


@app.command()
def restore(
    files: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="A checkpoint, or a run's folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the restored images.")] = Path("restored"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Restore again what is already in the output folder.")] = False,
    json_: Json = False,
) -> None:
    """Restore images with a trained network; what is done already is skipped.

    Example: `unseen restore rainy.jpg --model runs/0123456789ab -o restored/`
    """
    from unseen.checkpoints import load_checkpoint, restorer
    from unseen.experiment import best_device, has_bf16
    from unseen.images import EXTENSIONS, find_images, read_image, write_image
    from unseen.restoration import restore_image

    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device is auto, cpu, cuda or mps, not {device!r}.")
    chosen = best_device() if device == "auto" else device
    if chosen not in ("cpu", best_device()):
        raise ConfigError(f"--device is {chosen}, and torch sees no such device here: use cpu or auto.")
    checkpoint = load_checkpoint(model, chosen)
    network = restorer(checkpoint.network, chosen, "mixed" if has_bf16(chosen) else "fp32")
    jobs: list[tuple[Path, Path]] = []
    for path in files:
        if path.is_dir():
            inside = path.resolve() in out.resolve().parents  # what was restored before is not an input
            found = [image for image in find_images(path) if not (inside and out.resolve() in image.resolve().parents)]
            jobs += [(image, out / image.relative_to(path)) for image in found]
        else:
            jobs.append((path, out / path.name))
    targets: dict[Path, Path] = {}
    for number, (source, target) in enumerate(jobs):
        target = (
            target
            if target.suffix.lower() in EXTENSIONS and target.suffix.lower() != ".gif"
            else target.with_suffix(".png")
        )
        jobs[number] = (source, target)
        if target.resolve() == source.resolve():
            raise ConfigError(f"{source} would be overwritten by its restored image. Choose another folder with -o.")
        if target in targets:
            raise ConfigError(
                f"{targets[target]} and {source} would both be written to {target}. Restore them to different folders."
            )
        targets[target] = source
    results: list[dict[str, Any]] = []
    began, failed = time.monotonic(), 0
    with progress_bar(json_) as draw:
        for number, (source, target) in enumerate(jobs, 1):
            result: dict[str, Any] = {"input": source, "output": target, "status": "skipped", "message": None}
            if overwrite or not target.exists():
                try:
                    write_image(target, restore_image(network, read_image(source)))
                    result["status"] = "restored"
                except UnseenError as error:
                    result |= {"status": "failed", "output": None, "message": str(error)}
                    failed += 1
                    say(f"Error: {error}")
            results.append(result)
            draw("restore", number, len(jobs), source.name)
    seconds = time.monotonic() - began
    restored = sum(result["status"] == "restored" for result in results)
    if json_:
        show({"model": checkpoint.path, "device": chosen, "seconds": seconds, "images": results})
    else:
        rate = f", {restored / seconds:.1f} a second on {chosen}" if restored else ""
        say(f"{restored} restored{rate}, {len(jobs) - restored - failed} skipped, {failed} failed. They are in {out}.")
    if failed:
        raise typer.Exit(1)
