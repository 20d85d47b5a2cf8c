"""A procedural stand-in for surveillance footage: people, cameras, and the tracklets in which they meet.

``appearance`` says who a person is, ``figure`` draws a person, ``scene`` paints streets, ``camera`` takes pictures,
``tracklet`` puts them together; ``settings`` and ``plan`` say what a data set holds, and ``market1501`` writes it.
``footage`` films the same people as ``walkers`` past the same cameras, and ``tracker`` says what a tracker would see.
Everything is drawn from random streams named by (seed, kind, indices), so a picture depends on nothing but its own
name, not on how many others are rendered, in which order or by how many processes.
"""

from .appearance import Person, sample_person
from .camera import LIGHTS, Camera, sample_camera
from .contact_sheet import contact_sheet, write_contact_sheet
from .footage import render_footage
from .market1501 import render_market1501
from .settings import MARKET1501_SIZE, FootageSettings, RenderingSettings
from .tracker import TrackerErrors, track_people
from .tracklet import render_distractor, render_tracklet

__all__ = [
    "LIGHTS",
    "MARKET1501_SIZE",
    "Camera",
    "FootageSettings",
    "Person",
    "RenderingSettings",
    "TrackerErrors",
    "contact_sheet",
    "render_distractor",
    "render_footage",
    "render_market1501",
    "render_tracklet",
    "sample_camera",
    "sample_person",
    "track_people",
    "write_contact_sheet",
]
