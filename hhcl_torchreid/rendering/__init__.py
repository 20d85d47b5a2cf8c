"""A procedural stand-in for surveillance footage: people, cameras, and the tracklets in which they meet.

``appearance`` says who a person is, ``figure`` draws a person, ``camera`` paints scenes and develops pictures,
``tracklet`` puts them together. Everything is drawn from random streams named by (seed, kind, indices), so a picture
depends on nothing but its own name, not on how many others are rendered, in which order or by how many processes.
"""

from .appearance import Person, sample_person
from .camera import LIGHTS, Camera, sample_camera
from .contact_sheet import contact_sheet, write_contact_sheet
from .tracklet import render_distractor, render_tracklet

__all__ = [
    "LIGHTS",
    "Camera",
    "Person",
    "contact_sheet",
    "render_distractor",
    "render_tracklet",
    "sample_camera",
    "sample_person",
    "write_contact_sheet",
]
