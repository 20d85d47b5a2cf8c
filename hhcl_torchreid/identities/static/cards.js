// A card for each thing that a view lists, and the answers that it takes.
"use strict";

window.identityCards = ({ data, people, elements, act, state, matches, open, openPair }) => {
  const TILES_PER_CARD = 24; // more than a strip shows
  const { OUTLIER, NOBODY, groupOf, nameOf, alternating } = people;
  const { element, count, decimals, facts, tile, three, gauge, fileName, choices, card } = elements;

  const typical = (number, without = []) => three(alternating(people.identity(number)).filter((image) => !without.includes(image)));

  // One of the identities that an image is compared with.
  function comparison(role, number, similarity, isDoubtful, without) {
    const made = element("div", { className: "side" }, element("span", {}, role));
    if (number < 0) made.append("no other identity");
    else {
      made.append(element("h3", {}, nameOf(number)), typical(number, without));
      if (similarity !== undefined) made.append(element("span", {}, gauge(similarity, isDoubtful), ` ${decimals(similarity)}`));
    }
    return made;
  }

  // What was answered about an image, in words.
  function answered(image) {
    if (!people.isAnswered(image)) return null;
    const number = groupOf(image);
    const text = number === NOBODY ? "nobody" : number === OUTLIER ? "no identity" : nameOf(number);
    return element("p", { className: "answer" }, `Answered: ${text}`);
  }

  function others(images) {
    const [image] = images;
    const isNew = people.isAnswered(image) && groupOf(image) >= people.numbersFrom;
    return [
      ["o", "Other…", "Choose another identity", (byKey) => act.elsewhere(images, byKey)],
      ["a", "New", "A new identity, apart from this one", act.can.split(images) ? (byKey) => act.split(images, byKey) : null, isNew],
      ["x", "Nobody", "The picture shows nobody, or several", (byKey) => act.nobody(images, byKey), groupOf(image) === NOBODY],
    ];
  }

  const to = (images, number) => (number < 0 ? null : (byKey) => act.is(images, number, byKey));
  const isGiven = (image, number) => people.isAnswered(image) && groupOf(image) === number;

  // Images that are one part of an identity, between the rest of it and the runner-up.
  function doubtful(images, own, other, similarity, otherSimilarity) {
    const [image] = images;
    const side = (role, number, ...how) => {
      const made = comparison(role, number, ...how);
      if (number >= 0) made.onclick = (event) => {
        event.stopPropagation();
        open(number, image);
      };
      return made;
    };
    const isPart = images.length > 1;
    const middle = isPart ? element("div", { className: "side part" }, element("span", {}, "part of it"),
      element("h3", {}, count(images.length, "image")), three(alternating({ images }))) : tile(image);
    const which = `${own < 0 ? "" : nameOf(own)} or ${other < 0 ? "none" : nameOf(other)}?`;
    return card(`${isPart ? `${count(images.length, "image")} such as ` : ""}${data.path[image]}: ${which}`,
      () => open(own < 0 ? other : own, image), true,
      element("div", { className: isPart ? "case parts" : "case" },
        side("assigned to", own, similarity, false, images),
        middle,
        side("runner-up", other, otherSimilarity, true)),
      choices(isPart ? "Which one are they?" : "Which one is it?", [
        // Whoever confirms has not said that all of a part are one person.
        ["c", "Confirm", "It is the one on the left", act.can.confirm(image, own) ? to([image], own) : null, isGiven(image, own)],
        ["r", "Runner-up", "It is the one on the right", other === own ? null : to(images, other), isGiven(image, other)],
        ...others(images),
      ]),
      answered(image),
      fileName(image, state().query));
  }

  const CARDS = {
    identities(identity) {
      const found = state().query ? identity.images.filter(matches) : [];
      const isFound = new Set(found);
      const ordered = [...found, ...alternating(identity).filter((image) => !isFound.has(image))];
      const strip = element("div", { className: identity.images.length > 8 ? "strip two" : "strip" },
        ...ordered.slice(0, TILES_PER_CARD).map((image) => tile(image, isFound.has(image) ? "found" : "")));
      const tightness = `tightness ${decimals(identity.tightness)}`;
      const file = found.length ? ` ${data.path[found[0]]}` : "";
      const label = `${nameOf(identity.number)} ${facts(identity)} ${tightness}${file}`;
      return card(label, () => open(identity.number, found[0]), false,
        element("div", { className: "head" },
          element("h2", {}, nameOf(identity.number)), " ",
          element("p", {}, facts(identity)), " ",
          element("p", { title: "Mean similarity of its images to their centroid" },
            "tightness ", gauge(identity.tightness), ` ${decimals(identity.tightness)}`)),
        strip,
        found.length ? fileName(found[0], state().query) : null);
    },

    hard(item) {
      if (typeof item === "number") {
        return doubtful([item], people.now(data.identity[item]), people.nearest(item), data.similarity[item], data.runnerUpSimilarity[item]);
      }
      const { images, own, other, similarity } = item;
      if (!images.length) return CARDS.merges([own, other, similarity]);
      return own < 0 ? CARDS.outliers(images[0]) : doubtful(images, people.now(own), people.now(other));
    },

    outliers(image) {
      const nearest = people.nearest(image);
      return card(`${data.path[image]}, outlier`, () => nearest >= 0 && open(nearest, image), true,
        element("div", { className: "case single" }, tile(image),
          comparison("nearest", nearest, data.runnerUpSimilarity[image], true)),
        choices("Which one is it?", [
          ["r", "Is this one", "It is the nearest identity", to([image], nearest), isGiven(image, nearest)],
          ...others([image]),
        ]),
        answered(image),
        fileName(image, state().query));
    },

    merges([one, other, similarity]) {
      const [left, right] = [people.now(one), people.now(other)];
      const isMerged = left === right;
      const isApart = !isMerged && people.areApart(left, right);
      const side = (number) => element("div", { className: "side" }, element("h3", {}, nameOf(number)),
        element("span", {}, facts(people.identity(number))), typical(number));
      if (left < 0 || right < 0) return element("div", { className: "card" }, "Nothing is left of one of them.");
      return card(`${nameOf(left)} and ${nameOf(right)}: one person?`, () => (isMerged ? open(left) : openPair(left, right)), true,
        element("div", { className: "case pair" }, side(left), isMerged ? null : side(right)),
        element("p", { className: "file" }, `similarity ${decimals(similarity)}`),
        choices("One person?", isMerged ? [] : [
          ["c", "One person", "Merge them", (byKey) => act.merge(left, right, byKey)],
          ["a", "Two people", "Keep them apart", (byKey) => act.apart(left, right, byKey), isApart],
        ]),
        isMerged || isApart ? element("p", { className: "answer" }, `Answered: ${isMerged ? "merged" : "two people"}`) : null);
    },
  };
  CARDS.nobody = CARDS.outliers;

  // Two cards of one thing look alike if these are equal.
  const looks = (number) => (number < 0 ? number : people.identity(number).version);
  const ofImage = (image) => {
    const numbers = [groupOf(image), people.now(data.identity[image]), people.nearest(image)];
    return [image, people.isAnswered(image), ...numbers, ...numbers.slice(1).map(looks), numbers[0] < 0 ? "" : nameOf(numbers[0])];
  };
  const LOOKS = {
    identities: ({ number, version }) => [number, version],
    merges: ([one, other]) => {
      const [left, right] = [people.now(one), people.now(other)];
      return [one, other, left, right, looks(left), looks(right), left !== right && people.areApart(left, right)];
    },
    hard: (item) => {
      if (typeof item === "number") return ofImage(item);
      const { images, own, other, place } = item;
      if (!images.length) return LOOKS.merges([own, other]);
      return [place, ...ofImage(images[0]), ...[own, other].map(people.now).flatMap((number) => [number, looks(number)])];
    },
    outliers: ofImage,
    nobody: ofImage,
  };

  function make(item) {
    const made = CARDS[state().view](item);
    made.looks = LOOKS[state().view](item).join();
    made.classList.toggle("answered", made.querySelector(".answer") !== null);
    return made;
  }

  // What was drawn already and looks the same stays.
  function fill(results, items) {
    const { view, query } = state();
    const drawn = new Map([...results.children].map((one) => [one.looks, one]));
    const focused = document.activeElement.closest(".card");
    const isSame = results.dataset.view === view && results.dataset.query === query;
    Object.assign(results.dataset, { view, query });
    results.replaceChildren(...items.map((item) => (isSame && drawn.get(LOOKS[view](item).join())) || make(item)));
    if (isSame && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  // Draws again what an answer has changed, in its place.
  function renew(cards, items) {
    for (const [place, item] of items.entries()) {
      if (cards[place].looks === LOOKS[state().view](item).join()) continue;
      const made = make(item);
      const hasFocus = cards[place].contains(document.activeElement);
      cards[place].replaceWith(made);
      if (hasFocus) made.focus({ preventScroll: true });
    }
  }

  return { fill, renew };
};
