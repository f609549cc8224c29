"""From upload to result: `unseen app` in a real browser, a rainy photograph of one megapixel.

    python benchmarks/app.py [--model rain] [--picture photo.jpg] [--screenshot docs/app.png] [--dark] [--width 1280]

Needs Gradio (the extra `app`), Chromium, and `pip install playwright`. Prints the seconds of three uploads, from the
moment the file is given to the page until the restored picture is drawn, and those of them that the model took.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage
import torch
from PIL import Image

from unseen.degradations import Rain
from unseen.images import to_bytes
from unseen.seeding import generator

try:
    import gradio  # noqa: F401
    from playwright.sync_api import sync_playwright
except ImportError as error:
    print(f"skipped: {error.name} is not installed (pip install gradio playwright)")
    sys.exit()

SIZE = (1250, 800)
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
DRAWN = """name => {
    const images = document.querySelectorAll("#both img");
    return document.querySelector("#said").innerText.trim().startsWith(name) && images.length > 1
        && [...images].every((image) => image.complete && image.naturalWidth > 0);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="what `unseen app --model` takes (default: the shipped weights)")
    parser.add_argument("--picture", type=Path, help="a picture of your own (default: a photograph with drawn rain)")
    parser.add_argument("--screenshot", type=Path, help="write the page after the last upload here")
    parser.add_argument("--dark", action="store_true", help="in dark colours")
    parser.add_argument("--width", type=int, default=1280, help="of the browser's window, in pixels")
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder:
        picture = chosen.picture or rainy(Path(folder) / "rainy.jpg")
        models = [] if chosen.model is None else ["--model", chosen.model]
        program = "import sys; from unseen.cli import main; sys.exit(main())"
        call = [sys.executable, "-c", program, "app", "--port", "0", "--no-browser", *models]
        with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                visit(server.stdout.readline().strip(), picture, folder, chosen)
            finally:
                server.send_signal(signal.SIGTERM)


def rainy(path: Path) -> Path:
    """A photograph that comes with scikit-image, at one megapixel, in medium rain."""
    with Image.open(Path(skimage.__file__).parent / "data" / "rocket.jpg") as image:
        clean = np.asarray(image.convert("RGB").resize(SIZE), np.float32) / np.float32(255)
    rain = Rain.preset("medium")
    images = torch.from_numpy(clean).permute(2, 0, 1)[None]
    batch = rain.render(images, rain.sample((SIZE[1], SIZE[0]), [generator(0, "app")]))
    Image.fromarray(to_bytes(batch.degraded[0].permute(1, 2, 0).numpy())).save(path, quality=95)
    return path


def visit(address: str, picture: Path, folder: str, chosen: argparse.Namespace) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES.split())
        scheme = "dark" if chosen.dark else "light"
        page = browser.new_page(viewport={"width": chosen.width, "height": 800}, color_scheme=scheme)
        page.set_default_timeout(300_000)
        page.goto(address)
        for number in range(3):
            page.wait_for_selector("#picture input[type=file]", state="attached")
            copy = Path(folder) / f"{picture.stem}-{number}{picture.suffix}"  # the name tells whose result is shown
            shutil.copyfile(picture, copy)
            began = time.perf_counter()
            page.set_input_files("#picture input[type=file]", copy)
            page.wait_for_function(DRAWN, arg=copy.name)
            print(f"{time.perf_counter() - began:.2f} s  {page.inner_text('#said').strip()}", flush=True)
            page.wait_for_selector(f"text=Download {copy.stem}-restored")
        if chosen.screenshot is not None:
            page.screenshot(path=chosen.screenshot, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
