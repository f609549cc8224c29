"""The page served on a socket of this machine. Gradio, and what it brings, is imported inside the functions."""

import errno
import importlib.util
import os
import socket
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from unseen.app.offers import Offer
from unseen.errors import ConfigError

PORT = 7860
"""Where the page is, unless another is asked for; one of the next hundred where it is taken."""

LARGEST = 256 * 2**20
"""Bytes of an upload, at most."""

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'self'"
"""A browser asks no other machine for anything, whatever the page says (Content-Security-Policy)."""


def check_gradio() -> None:
    """ConfigError where Gradio is missing, or too old."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("The page needs Gradio. Install it with: pip install 'unseen[app]'")
    from importlib.metadata import version

    if int(version("gradio").partition(".")[0]) < 6:
        raise ConfigError(
            f"Gradio {version('gradio')} is installed, and the page needs 6 or later: pip install -U 'unseen[app]'"
        )


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens at `host`, on `port` (None: 7860, or the next that is free; 0: any).

    ConfigError says why there is none.
    """
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"The port is {port}: expected 0 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(PORT, PORT + 100) if port is None else (port,):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            raise ConfigError(_refused(host, candidate, error)) from error
    raise ConfigError(f"The ports {PORT} to {PORT + 99} of {host} are all in use: name another with --port.")


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use: name another with --port, or none, and a free one is taken."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used without special rights: name one from 1024 on with --port."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: use --host 127.0.0.1, or 0.0.0.0 for all that it has."
    return f"Cannot listen at {host}, port {port}: {error.strerror or error}."


def address_of(listener: socket.socket) -> str:
    """The page's address, as a browser on this machine takes it."""
    name: tuple[str, int] = listener.getsockname()[:2]
    host, port = name
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    offered: Mapping[str, Offer], listener: socket.socket, *, device: str, opened: Callable[[str], object]
) -> None:
    """Serve the page until Ctrl-C, which goes on as KeyboardInterrupt. What was uploaded and made is then deleted.

    `device` is the name of what computes, as it is told; `opened` is told the page's address.
    """
    with TemporaryDirectory(prefix="unseen-app-") as folder:
        _keep_to_itself(folder)
        import uvicorn  # pyright: ignore[reportMissingImports]

        server = uvicorn.Server(
            uvicorn.Config(application(offered, device), log_level="critical", timeout_graceful_shutdown=1)
        )
        opened(address_of(listener))  # the socket listens: who asks now is answered in a moment
        server.run(sockets=[listener])


def _keep_to_itself(folder: str) -> None:
    """What Gradio reads from the environment when it is imported: it reports nothing to anybody, keeps no history of
    what was uploaded, and puts its files into `folder`."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": folder,
    }


def application(offered: Mapping[str, Offer], device: str) -> Any:
    """The page as an ASGI application. Any: Gradio may not be installed."""
    import gradio  # pyright: ignore[reportMissingImports]
    from fastapi import FastAPI  # pyright: ignore[reportMissingImports]

    from unseen.app.page import HEAD, STYLE, page

    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page(offered, device),
        "/",
        allowed_paths=[str(offer.map.absolute()) for offer in offered.values() if offer.map is not None],
        max_file_size=LARGEST,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        favicon_path=None,
        theme=gradio.themes.Default(**fonts),
        css=STYLE,
        head=HEAD,
    )
    return Fenced(app)


class Fenced:
    """An ASGI application whose answers carry `POLICY`, and name no page that led away from it."""

    def __init__(self, inner: Any) -> None:  # Any: ASGI's own types come with Gradio
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def fenced(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"same-origin")]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.inner(scope, receive, fenced)


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    host = str(listener.getsockname()[0])
    return host == "::1" or host.startswith("127.")
