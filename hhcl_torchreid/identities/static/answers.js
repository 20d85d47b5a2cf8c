// Turns what somebody does on the page into rows of corrections.csv, so that no row contradicts another one.
"use strict";

window.identityAnswers = (people) => {
  const { lead, unit, groupOf } = people;
  const leads = (images) => [...new Set(images.map(lead))];
  // The most typical image that an identity has beside those of some tracks.
  const central = (number, without = new Set()) => people.identity(number)?.images.find((image) => !without.has(image));
  const whole = (images) => new Set(images.flatMap(unit));

  const linked = (answer, isHere, isThere) => people.links()
    .filter((row) => row[0] === answer)
    .flatMap(([, a, b]) => (isHere(a) && isThere(b) ? [[a, b]] : isHere(b) && isThere(a) ? [[b, a]] : []));

  // A later answer about the same two images takes the earlier one's place: these take back what would contradict.
  const replacing = (answer, isHere, isThere) =>
    linked(answer === "same" ? "different" : "same", isHere, isThere).map(([a, b]) => [answer, a, b]);

  // Nothing ties the images to their identity any more. What was held there by one of them is held by another.
  function untie(images) {
    const moved = whole(images);
    const rows = [];
    for (const number of new Set(images.map(groupOf))) {
      const anchor = number >= 0 ? central(number, moved) : undefined;
      if (anchor === undefined) continue;
      const isMoved = (image) => moved.has(image) && groupOf(image) === number;
      const isLeft = (image) => !moved.has(image) && groupOf(image) === number;
      const taken = replacing("different", isMoved, isLeft);
      const held = leads(taken.map(([, , left]) => left)).filter((left) => left !== lead(anchor));
      rows.push(...taken, ...held.map((left) => ["same", left, anchor]));
      const name = people.nameGiven(number);
      for (const [image, given] of people.names()) {
        if (isMoved(image) && given.name) rows.push(["name", image, -1, ""], ["name", anchor, -1, name]);
      }
    }
    return rows;
  }

  const hasPair = (rows, a, b) => rows.some((row) => row[0] === "different" && row[1] === a && row[2] === b);

  function part(image, rows) {
    const anchor = central(groupOf(image), whole([image]));
    return groupOf(image) < 0 || anchor === undefined || hasPair(rows, lead(image), anchor)
      ? [] : [["different", lead(image), anchor]];
  }

  // These images are of that identity.
  function move(images, number) {
    const target = central(number, whole(images));
    if (target === undefined) return [];
    const movers = leads(images).filter((image) => groupOf(image) !== number);
    const from = movers.length ? groupOf(movers[0]) : number;
    if (from >= 0 && from !== number && central(from, whole(images)) === undefined) return merge(from, number);
    const rows = untie(movers);
    for (const image of movers) {
      rows.push(...part(image, rows));
      rows.push(...replacing("same", (one) => whole([image]).has(one), (one) => groupOf(one) === number));
      rows.push(["same", image, target]);
    }
    return rows;
  }

  function confirm(images) {
    return leads(images).flatMap((image) => {
      const anchor = groupOf(image) < 0 ? undefined : central(groupOf(image), whole([image]));
      const isOfTrack = (one) => lead(one) === image;
      const isBeside = (one) => groupOf(one) === groupOf(image);
      return anchor === undefined ? [] : [...replacing("same", isOfTrack, isBeside), ["same", image, anchor]];
    });
  }

  // These images are one person, and not the one whose identity they are in.
  function split(images) {
    const movers = leads(images);
    const [first, ...others] = movers;
    const moved = whole(images);
    if (groupOf(first) < 0) {
      const nearest = people.nearest(first);
      return nearest < 0 ? [] : [["different", first, central(nearest)]];
    }
    const anchor = central(groupOf(first), moved);
    if (anchor === undefined) return [];
    const rows = untie(movers);
    if (!hasPair(rows, first, anchor)) rows.push(["different", first, anchor]);
    for (const image of others) {
      rows.push(...replacing("same", (one) => one === image, (one) => moved.has(one)));
      rows.push(["same", image, first]);
    }
    return rows;
  }

  const nobody = (images) => [...untie(images), ...leads(images).map((image) => ["nobody", image, -1])];

  const isOf = (number) => (image) => groupOf(image) === number;

  function merge(from, to) {
    const kept = people.nameGiven(to) || people.nameGiven(from);
    const rows = [...replacing("same", isOf(from), isOf(to)), ["same", central(from), central(to)]];
    for (const [image, given] of people.names()) {
      if ((isOf(from)(image) || isOf(to)(image)) && given.name !== kept) rows.push(["name", image, -1, kept]);
    }
    return rows;
  }

  const apart = (one, other) => [...replacing("different", isOf(one), isOf(other)), ["different", central(one), central(other)]];

  function name(number, text) {
    const image = central(number);
    const others = [...people.names()].filter(([named, given]) => named !== image && groupOf(named) === number && given.name !== text);
    return [...others.map(([named]) => ["name", named, -1, text]), ["name", image, -1, text]];
  }

  const isBesideOthers = (images) => central(groupOf(images[0]), whole(images)) !== undefined;

  return { isBesideOthers, move, confirm, split, nobody, merge, apart, name };
};
