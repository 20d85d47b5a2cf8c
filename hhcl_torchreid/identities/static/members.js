// The images of an open identity, by camera; those of one track are one picture until it opens.
"use strict";

window.identityMembers = (data, { isFound, choose }) => {
  const AT_ONCE = 300;
  const tracks = window.byTrack(data);
  const { element, cameraDot, cameraName, count, decimals, tile } = window.pageElements(data);

  function members(identity) {
    const box = element("div", { className: "members" });
    const drawFirst = (limit) => {
      const some = identity.images.slice(0, limit);
      const groups = identity.cameras.map((camera) => [camera, some.filter((image) => data.camera[image] === camera)]);
      box.replaceChildren(...groups.filter(([, images]) => images.length).flatMap(([camera, images]) => [
        element("h3", {}, cameraDot(camera), [cameraName(camera), count(images.length, "image"), tracks.visits(images)]
          .filter(Boolean).join(" · ")),
        element("div", { className: "grid" }, ...tracks.groups(images).map(trackButton)),
      ]));
      const rest = identity.images.length - some.length;
      if (rest > 0) {
        box.append(element("button", { type: "button", onclick: () => drawFirst(limit + AT_ONCE) },
          `${count(rest, "image")} less similar to the centroid: show more`));
      }
    };
    drawFirst(AT_ONCE);
    return box;
  }

  function memberButton(image) {
    return element("button", { type: "button", dataset: { image }, onclick: () => choose(image) },
      tile(image, isFound(image) ? "found" : ""), decimals(data.similarity[image]));
  }

  // A track is its image most similar to the centroid, until it opens.
  function trackButton({ track, images }) {
    const button = memberButton(images[0]);
    if (images.length === 1) return button;
    button.classList.add("track");
    button.dataset.images = `×${images.length}`;
    button.title = `${tracks.nameOf(track)}, ${count(images.length, "image")}: click to show all`;
    button.addEventListener("click", () => {
      const all = tracks.inOrder(images).map(memberButton);
      button.replaceWith(...all);
      choose(images[0]);
      all[tracks.inOrder(images).indexOf(images[0])].focus();
    });
    return button;
  }

  return members;
};
