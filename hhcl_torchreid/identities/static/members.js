// The images of an open identity, by camera, to look at and to tick; those of one track are one picture until it opens.
"use strict";

window.identityMembers = ({ data, people, elements }, { isFound, choose, tick, isTicked }) => {
  const AT_ONCE = 300;
  const tracks = window.byTrack(data);
  const { element, cameraDot, cameraName, count, decimals, tile } = elements;
  let [drawn, limit] = [null, AT_ONCE];
  let kept = new Map(); // what was drawn last

  function members(identity) {
    if (drawn !== identity.number) [drawn, limit, kept] = [identity.number, AT_ONCE, new Map()];
    const box = element("div", { className: "members" });
    const draw = () => {
      const some = identity.images.slice(0, limit);
      const groups = identity.cameras.map((camera) => [camera, some.filter((image) => data.camera[image] === camera)]);
      const before = kept;
      kept = new Map();
      const again = (group) => {
        const key = `${group.images.map(isFound)} ${group.images}`;
        kept.set(key, before.get(key) ?? trackMember(identity, group));
        kept.get(key).querySelector("input").checked = isTicked(group.images[0]);
        return kept.get(key);
      };
      box.replaceChildren(...groups.filter(([, images]) => images.length).flatMap(([camera, images]) => [
        element("h3", {}, cameraDot(camera), [cameraName(camera), count(images.length, "image"), tracks.visits(images)]
          .filter(Boolean).join(" · ")),
        element("div", { className: "grid" }, ...tracks.groups(images).map(again)),
      ]));
      const rest = identity.images.length - some.length;
      if (rest > 0) {
        const more = () => {
          limit += AT_ONCE;
          draw();
        };
        box.append(element("button", { type: "button", onclick: more }, `${count(rest, "image")} less similar to the centroid: show more`));
      }
    };
    draw();
    return box;
  }

  // The picture is a button, and its tick stands beside it.
  function member(identity, image) {
    const button = element("button", { type: "button", dataset: { image }, onclick: () => choose(image) },
      tile(image, isFound(image) ? "found" : ""), decimals(people.similarityTo(identity.number, image)));
    const box = element("input", { type: "checkbox", checked: isTicked(image), ariaLabel: `Tick ${data.path[image]}` });
    box.onchange = () => tick(image, box.checked);
    return element("div", { className: "member" }, button, box);
  }

  // A track is its image most similar to the centroid, until it opens.
  function trackMember(identity, { track, images }) {
    const made = member(identity, images[0]);
    if (images.length === 1) return made;
    const button = made.querySelector("button");
    button.classList.add("track");
    button.dataset.images = `×${images.length}`;
    button.title = `${tracks.nameOf(track)}, ${count(images.length, "image")}: click to show all`;
    button.addEventListener("click", () => {
      const all = tracks.inOrder(images).map((image) => member(identity, image));
      made.replaceWith(...all);
      choose(images[0]);
      all[tracks.inOrder(images).indexOf(images[0])].querySelector("button").focus();
    });
    return made;
  }

  return members;
};
