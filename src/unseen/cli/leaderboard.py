"""`unseen leaderboard`: One page from many result files."""

from pathlib import Path
from typing import Annotated

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError, DataError, writing


@app.command()
def leaderboard(
    results: Annotated[list[Path], typer.Argument(help="Result files, or folders that hold them (*.json).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page, the tables and the figures.")],
    reference: Annotated[
        str | None, typer.Option(help="Model that the others are tested against (default: that of the first file).")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare result files, whoever wrote them: every figure is made again from their rows.

    Example: `unseen leaderboard results/ theirs.json -o board/ --reference prenet`
    """
    from unseen.report.verdict import sentences, write_verdict
    from unseen.results import Result, read_result

    files = _files(results)
    read: list[Result] = []
    refused: dict[str, str] = {}
    with progress_bar(json_) as draw:
        for place, (name, path) in enumerate(files, 1):
            try:
                read.append(read_result(path))
            except DataError as error:
                refused[name] = str(error).replace(str(path), path.name)  # the page does not depend on where files are
                say(f"Not taken: {error}")
            draw("read results", place, len(files), "")
    if not read:
        raise DataError(
            f"None of the {len(files)} files is a result. Write results with `unseen evaluate MODEL -o FOLDER`."
        )
    with writing(out):
        page = write_verdict(read, [], out, reference, refused=refused)
    said = sentences(read, reference)
    if json_:
        show({"page": page, "results": len(read), "refused": refused, "sentences": said})
        return
    for text in said:
        say(text)
    say("The page:")
    print(page.resolve())


def _files(given: list[Path]) -> list[tuple[str, Path]]:
    """Every file to be read, in order, under the name that the page may call it by. Pages' own files are no results."""
    found: dict[Path, str] = {}
    for path in given:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*.json") if file.name != "verdict.json")
            if not inside:
                raise ConfigError(f"{path} holds no *.json. Name result files, or a folder that has some.")
            found |= {file: file.relative_to(path).as_posix() for file in inside if file not in found}
        elif path.is_file():
            found.setdefault(path, path.name)
        else:
            raise ConfigError(f"{path}: there is no such file or folder. Name result files, or a folder of them.")
    return [(name, path) for path, name in found.items()]
