"""Checkpoints: a copy in host memory, written, hashed and uploaded in the background; found, verified and cut anew."""

from models.checkpoints.resume import check_resumable, layout, nothing_to_resume
from models.checkpoints.retention import Retention
from models.checkpoints.store import FOLDER, FORMAT, MARKER, Checkpoint, Checkpoints
from models.checkpoints.universal import convert, same_layout

__all__ = [
    "FOLDER",
    "FORMAT",
    "MARKER",
    "Checkpoint",
    "Checkpoints",
    "Retention",
    "check_resumable",
    "convert",
    "layout",
    "nothing_to_resume",
    "same_layout",
]
