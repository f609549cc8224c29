"""A page for people: drop a picture, see what a model makes of it, take it home. Only serving it imports Gradio."""

from unseen.app.offers import Offer, offer_models
from unseen.app.pictures import Restored, Shown, blended, restore_again, restore_upload, saved, shown
from unseen.app.serving import listening, serve

__all__ = [
    "Offer",
    "Restored",
    "Shown",
    "blended",
    "listening",
    "offer_models",
    "restore_again",
    "restore_upload",
    "saved",
    "serve",
    "shown",
]
