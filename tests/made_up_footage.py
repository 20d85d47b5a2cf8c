"""Made-up features of people who cross cameras, with the tracks that a tracker would give."""

import numpy as np
import torch
from torch.nn.functional import normalize

from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.labels import Images

LENGTH = 12


class Footage:
    """People who cross cameras, a track each time, with features that look most of all like those of their track."""

    def __init__(self, seed=0, people=6, cameras=3, frames=LENGTH, together=2, noise=0.03, own=0.5):
        rng = np.random.default_rng(seed)
        looks, rows, self.people, sightings = rng.normal(size=(people, 32)), [], [], []
        for camera in range(cameras):
            for person in range(people):
                look = looks[person] + own * rng.normal(size=32)
                start = 100 * (person // together)
                for frame in range(frames):
                    rows.append(look + noise * rng.normal(size=32))
                    sightings.append(Sighting(f"c{camera}", f"{person}", start + frame))
                    self.people.append(person)
        self.features = normalize(torch.tensor(np.array(rows), dtype=torch.float32), dim=1)
        self.sightings, self.people = sightings, np.array(self.people)

    @property
    def images(self):
        cameras = [int(seen.camera[1:]) for seen in self.sightings]
        paths = [f"{number}.jpg" for number in range(len(cameras))]
        return Images.of_sightings(paths, cameras, [0] * len(cameras), self.sightings)

    def rename(self, old, new, when=lambda frame: True):
        self.sightings = [
            seen._replace(track=new) if seen.track == old and when(seen.frame) else seen for seen in self.sightings
        ]
