"""`unseen app`: A page to restore pictures on, in the browser."""

import signal
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from unseen.cli.app import app, say
from unseen.cli.opening import Priors, device_named


@app.command("app")
def page(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A run's folder, or any model file, beside the shipped weights; repeatable. The first is chosen.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Where the page listens.", show_default="7860, or the next free one", min=0)
    ] = None,
    host: Annotated[
        str, typer.Option(help="An address of this machine; 0.0.0.0 lets others in the network use the page.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or mixed, for networks of ours.")] = "auto",
    trust: Annotated[bool, typer.Option("--trust", help="Allow model files that execute code.")] = False,
    prior: Priors = None,
) -> None:
    """Restore pictures on a page in the browser. It is on this machine alone, and reports nothing to anybody.

    Example: `unseen app` or `unseen app --model runs/0123456789ab --port 8000 --no-browser`
    """
    from unseen.app.serving import check_gradio, is_local, listening, serve

    check_gradio()
    from unseen.app.offers import offer_models

    chosen = device_named(device)
    with listening(host, port) as listener:
        offered = offer_models(model or [], device=chosen, precision=precision, trust=trust, priors=prior or ())
        if not is_local(listener):
            say("Everybody who reaches this machine can use the page: there is no password, and no encryption.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by either, it deletes what was uploaded

        def opened(address: str) -> None:
            say("The page is open until Ctrl-C:")
            print(address, flush=True)
            if browser:
                webbrowser.open(address)

        with suppress(KeyboardInterrupt):
            serve(offered, listener, device=_name_of(chosen), opened=opened)
    say("Closed.")


def _name_of(device: str) -> str:
    from unseen.training import processor

    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return "the Apple GPU" if device == "mps" else processor()
