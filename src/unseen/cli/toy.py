"""`unseen toy`: Train the toy's networks and draw what they learned: the function, or the noise."""

from pathlib import Path
from typing import Annotated

import typer

from unseen.cli.app import Json, SetBase, app, duration, progress_bar, say, show
from unseen.errors import writing


@app.command()
def toy(
    file: Annotated[
        Path | None, typer.Argument(help="YAML of a toy (default: studies/toy.yaml, which is built in).")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page, the picture and the rows.")] = Path(
        "toy"
    ),
    set_: SetBase = [],  # noqa: B006
    json_: Json = False,
) -> None:
    """Train many small networks on functions under noise, and draw which of the two each has learned.

    The same command again computes nothing that has rows in the folder.

    Example: `unseen toy -o toy/` or `unseen toy studies/toy.yaml -o toy/ --set base.network.width=128`
    """
    import time

    from unseen.toy.config import load_toy

    config = load_toy(file, set_)
    from unseen.toy.page import write_toy
    from unseen.toy.plane import Planes, cells_table, verdict
    from unseen.toy.run import EXAMPLES, ROWS, run_toy

    began = time.monotonic()
    with progress_bar(json_) as draw:
        rows, examples, trained = run_toy(
            config, out, lambda done, total: draw("steps, all networks of a seed and a start at once", done, total, "")
        )
    found = Planes(config, rows, examples)
    with writing(out):
        page, said = write_toy(found, out), verdict(found)
    seconds = time.monotonic() - began
    if json_:
        show(
            {
                "toy": config.name,
                "question": config.question,
                "networks": len(found.experiments),
                "trained": trained,
                "seconds": seconds,
                "sentences": said,
                "learned": [{"start": start, **vars(found.tally(start))} for start in found.starts],
                "cells": cells_table(found).to_dict("records"),
                "page": page,
                "files": [out / name for name in ("toy.png", "toy.csv", ROWS, EXAMPLES)],
            }
        )
        return
    for sentence in said:
        say(sentence)
    say(f"{trained} of {len(found.experiments)} networks were trained now; {duration(seconds)} in all.")
    print(page)
