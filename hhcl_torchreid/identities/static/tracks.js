// Tracks: the images of an identity one by one or as tracks that open, and when a camera saw it.
"use strict";

window.byTrack = (data) => {
  const UNKNOWN = -1;
  const FRAMES_APART = 3; // medians: a longer pause is another visit
  const inOrder = (images) => [...images].sort((a, b) => data.frame[a] - data.frame[b]);

  // Groups in the order of their first images; an image without a track is a group by itself.
  function groups(images) {
    const found = new Map();
    for (const image of images) {
      const track = data.track[image];
      const key = track === UNKNOWN ? `image ${image}` : track;
      if (found.has(key)) found.get(key).images.push(image);
      else found.set(key, { track, images: [image] });
    }
    return [...found.values()];
  }

  const nameOf = (track) => `track ${data.tracks[track]}`;

  // The frames in which a camera saw these images, as ranges: "frames 3\u201340, 90\u2013120".
  function visits(images) {
    const frames = [...new Set(images.map((image) => data.frame[image]))].filter((frame) => frame !== UNKNOWN);
    if (!frames.length) return "";
    frames.sort((a, b) => a - b);
    const steps = frames.slice(1).map((frame, index) => frame - frames[index]).sort((a, b) => a - b);
    const pause = FRAMES_APART * (steps[Math.floor(steps.length / 2)] || 1);
    const ranges = [];
    for (const frame of frames) {
      const last = ranges.at(-1);
      if (last && frame - last[1] <= pause) last[1] = frame;
      else ranges.push([frame, frame]);
    }
    const texts = ranges.map(([first, last]) => (first === last ? `${first}` : `${first}\u2013${last}`));
    return `${texts.length === 1 && !texts[0].includes("\u2013") ? "frame" : "frames"} ${texts.join(", ")}`;
  }

  return { groups, inOrder, nameOf, visits };
};
