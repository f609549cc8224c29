"""The page, in Gradio: what is on it, and what follows on what."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markupsafe import Markup

from unseen.app.offers import Offer
from unseen.app.pictures import Restored, restore_again, restore_upload, saved, shown
from unseen.errors import DataError, UnseenError
from unseen.images import EXTENSIONS
from unseen.restoration.tiles import out_of_memory

KEPT = 3600
"""Seconds after which files that were uploaded or made are deleted."""

WAITING = 32
"""How many restorations may wait for their turn."""

STYLE = """
.gradio-container { max-width: 72rem !important; margin: 0 auto !important; }
#head h1 { font-size: 1.6rem; margin: 0.4rem 0; }
#head p, .said p { margin: 0.2rem 0; line-height: 1.5; }
.said { overflow-wrap: anywhere; }
.said .error { color: var(--error-text-color, #b91c1c); font-weight: 600; }
#picture { min-height: 9rem; }
footer { display: none !important; }
"""

# Gradio's field for files takes what is dropped or chosen, but nothing that is pasted.
HEAD = """<script>
addEventListener("paste", (event) => {
  const field = document.querySelector("#picture input[type=file]");
  if (!field || !event.clipboardData.files.length) return;
  field.files = event.clipboardData.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
</script>"""


def page(offered: Mapping[str, Offer], device: str) -> Any:
    """The page with these models, the first of them chosen. `device` is the name of what computes, as it is told.

    Any: a `gradio.Blocks`; Gradio may not be installed.
    """
    import gradio as gr  # pyright: ignore[reportMissingImports]

    first, several = next(iter(offered.values())), len(offered) > 1

    with gr.Blocks(title="unseen", analytics_enabled=False, delete_cache=(KEPT // 4, KEPT), fill_width=True) as blocks:
        restored = gr.State(time_to_live=KEPT)
        gr.HTML(
            "<h1>unseen</h1><p>Drop a picture, choose one, or paste one. It is restored on the machine that serves "
            "this page, and goes nowhere else.</p>",
            elem_id="head",
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                picture = gr.File(
                    label="Picture", file_types=["image", *EXTENSIONS], height=150, elem_id="picture", interactive=True
                )
                model = gr.Dropdown(
                    list(offered), value=first.name, label="Model", visible=several, interactive=True, filterable=False
                )
                strength = gr.Slider(
                    0, 1, value=1, step=0.05, label="Strength", info="0 is the input, 1 all that the model does."
                )
                download = gr.DownloadButton("Download", interactive=False, variant="primary", elem_id="download")
                of_model = gr.HTML(_about(first), elem_classes="said", elem_id="about")
            with gr.Column(scale=2, min_width=320):
                said = gr.HTML(_lines("Before and after appear here."), elem_classes="said", elem_id="said")
                with gr.Tabs():
                    with gr.Tab("Result"):
                        both = gr.ImageSlider(
                            show_label=False, interactive=False, max_height=640, buttons=["fullscreen"], elem_id="both"
                        )
                    with gr.Tab("Removed"):
                        gr.HTML(_lines("The input less the result, four times amplified, around grey."))
                        taken = gr.Image(show_label=False, interactive=False, buttons=["fullscreen"], elem_id="removed")
                    with gr.Tab("Map"):
                        map_told = gr.HTML(_on_map(first), elem_classes="said", elem_id="map-told")
                        map_ = gr.Image(
                            _map(first), show_label=False, interactive=False, visible=first.map is not None,
                            buttons=["fullscreen"], elem_id="map",
                        )  # fmt: skip

        # Each gives all of its outputs once: what lies on a tab that has not been seen keeps only the last it was told.
        # Gradio copies the files before it asks whether there is more.
        def show(found: Restored, strength: float) -> Iterator[dict[Any, Any]]:
            with TemporaryDirectory() as folder:
                files = shown(found, strength, Path(folder))
                yield {
                    restored: found,
                    both: (str(files.before), str(files.after)),
                    taken: str(files.removed),
                    download: gr.update(interactive=False),
                }

        def on_upload(uploaded: dict[str, Any], name: str, strength: float) -> Iterator[dict[Any, Any]]:
            try:
                found = restore_upload(Path(uploaded["path"]), offered[name])
                for update in show(found, strength):
                    yield {picture: None, said: _told(found, device), **update}
            except Exception as error:
                yield {picture: None, **refuse(error)}

        def on_model(name: str) -> tuple[str, str, Any]:
            offer = offered[name]
            return _about(offer), _on_map(offer), gr.update(value=_map(offer), visible=offer.map is not None)

        def again(name: str, found: Restored | None, strength: float) -> Iterator[dict[Any, Any]]:
            if found is None:
                return
            try:
                found = restore_again(found, offered[name])
                for update in show(found, strength):
                    yield {said: _told(found, device), **update}
            except Exception as error:
                yield refuse(error)

        def on_strength(found: Restored | None, strength: float) -> Iterator[dict[Any, Any]]:
            if found is not None:
                try:
                    yield from show(found, strength)
                except Exception as error:
                    yield refuse(error)

        def to_take_home(found: Restored | None, strength: float) -> Iterator[dict[Any, Any]]:
            if found is None:
                return
            try:
                with TemporaryDirectory() as folder:
                    path, lost = saved(found, strength, Path(folder))
                    told = {said: _told(found, device, lost)} if lost else {}
                    yield {
                        **told,
                        download: gr.update(label=f"Download {path.name}", value=str(path), interactive=True),
                    }
            except Exception as error:
                yield refuse(error)

        def refuse(error: Exception) -> dict[Any, Any]:
            """Say what is wrong in the place of a result. What is no user's error goes on."""
            if not isinstance(error, UnseenError):
                if not out_of_memory(error):
                    raise error
                error = DataError("There is not enough memory for this picture. Scale it down, or cut it up.")
            wrong = Markup('<p class="error" role="alert">{}</p>').format(str(error))
            return {
                restored: None,
                said: wrong,
                both: None,
                taken: None,
                download: gr.update(label="Download", value=None, interactive=False),
            }

        seen = [restored, said, both, taken, download]
        # One restoration at a time, whoever asks; the others wait.
        alone: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "restore", "show_progress_on": both}
        hidden: dict[str, Any] = {"api_visibility": "private"}
        take_home: dict[str, Any] = {
            "fn": to_take_home, "inputs": [restored, strength], "outputs": seen, "show_progress": "hidden", **hidden,
        }  # fmt: skip
        # Not preprocessed: Gradio would leave an empty file behind. That the path is an upload is checked before.
        picture.upload(
            on_upload, [picture, model, strength], [picture, *seen], preprocess=False, **alone, **hidden
        ).then(**take_home)
        model.input(on_model, model, [of_model, map_told, map_], **hidden).then(
            again, [model, restored, strength], seen, **alone, **hidden
        ).then(**take_home)
        strength.input(
            on_strength, [restored, strength], seen, trigger_mode="always_last", show_progress="hidden", **hidden
        ).then(**take_home)
        blocks.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return blocks


def _told(found: Restored, device: str, lost: Iterable[str] = ()) -> str:
    notes = [*found.picture.notes, *lost]
    height, width = found.size
    line = (
        f"{found.name}: {width:,} x {height:,} pixels, restored by {found.model} in {found.seconds:.2f} s on {device}."
    )
    said = "".join(f" Note: {note}." for note in found.notes)
    return _lines(line + said, f"Of the file: {'; '.join(notes)}." if notes else "")


def _about(offer: Offer) -> str:
    return _lines(offer.about)


def _on_map(offer: Offer) -> str:
    if offer.map is None:
        return _lines(offer.no_map)
    return _lines("The map of generalisation: which rains the model removes, those it was trained on in the frame.")


def _map(offer: Offer) -> str | None:
    return None if offer.map is None else str(offer.map.absolute())


def _lines(*lines: str) -> str:
    """Paragraphs; what a file or a model is called is no markup."""
    return Markup().join(Markup("<p>{}</p>").format(line) for line in lines if line)
