// The identities as they stand: those of the result, and what the answers of corrections.csv have made of them.
"use strict";

window.byIdentity = (data) => {
  const OUTLIER = -1;
  const NOBODY = -2;
  const group = new Int32Array(data.identity); // of each image, now
  const groups = new Map(); // number -> the identity
  const links = new Map(); // two images -> the last row about them
  const names = new Map(); // image -> the name it gives its identity, and when it was given
  const asked = new Map(); // image -> the number of answers about it
  let turn = 0;
  let version = 0; // of an identity: another number, another look

  // ---------------------------------------------------------------- what the result says

  const first = []; // the images of each identity of the result, the most typical one first
  data.identity.forEach((number, image) => number !== OUTLIER && (first[number] ||= []).push(image));
  first.forEach((images, number) => groups.set(number, make(number, images.sort(typicalFirst)))); // numbers may be missing

  let pieces;

  // A track is answered as a whole, as far as it is of one identity of the result; an image without one is alone.
  function unit(image) {
    const piece = (other) => data.track[other] * (first.length + 1) + data.identity[other];
    if (data.track[image] < 0) return [image];
    if (!pieces) {
      pieces = new Map();
      data.track.forEach((track, other) => {
        if (!pieces.has(piece(other))) pieces.set(piece(other), []);
        pieces.get(piece(other)).push(other);
      });
      for (const images of pieces.values()) images.sort(typicalFirst);
    }
    return pieces.get(piece(image));
  }

  // The image that answers about a track name.
  const lead = (image) => unit(image)[0];

  function typicalFirst(a, b) {
    return (data.similarity[b] ?? -1) - (data.similarity[a] ?? -1) || a - b;
  }

  // The number of an identity of the result, or of the one that it is part of now.
  const now = (number) => (groups.has(number) || !(number in first) ? number : group[first[number][0]]);

  const margin = (image) => (now(data.runnerUp[image]) < 0 || now(data.runnerUp[image]) === now(data.identity[image])
    ? Infinity : data.similarity[image] - data.runnerUpSimilarity[image]);

  function similarityTo(number, image) {
    if (data.identity[image] === number) return data.similarity[image];
    return data.runnerUp[image] === number ? data.runnerUpSimilarity[image] : null;
  }

  // ---------------------------------------------------------------- identities

  function make(number, members) {
    const cameras = new Set();
    let [sum, known] = [0, 0];
    for (const image of members) {
      cameras.add(data.camera[image]);
      const value = similarityTo(number, image);
      if (value === null) continue;
      sum += value;
      known += 1;
    }
    return {
      number,
      version: version += 1,
      images: members,
      cameras: [...cameras].sort((a, b) => a - b),
      tightness: known ? sum / known : null,
    };
  }

  // Those of the result first, so that the most typical image stays the same one.
  const inOrder = (number) => (a, b) =>
    (data.identity[b] === number) - (data.identity[a] === number) || typicalFirst(a, b);

  function remake(number, members) {
    if (members.length) groups.set(number, make(number, members));
    else groups.delete(number);
  }

  // Returns where the images were.
  function shift(moved, to) {
    const before = new Map();
    for (const image of new Set(moved)) {
      if (group[image] === to) continue;
      if (!before.has(group[image])) before.set(group[image], []);
      before.get(group[image]).push(image);
      group[image] = to;
    }
    for (const from of before.keys()) {
      if (from >= 0) remake(from, groups.get(from).images.filter((image) => group[image] === from));
    }
    if (to >= 0 && before.size) remake(to, [...(groups.get(to)?.images ?? []), ...[...before.values()].flat()].sort(inOrder(to)));
    return before;
  }

  function unused() {
    let number = first.length;
    while (groups.has(number)) number += 1;
    return number;
  }

  // The first images of each camera before the second ones, the most similar to the centroid first.
  function alternating(identity) {
    if (identity.alternating) return identity.alternating;
    const seen = new Map();
    const turns = new Map();
    for (const image of identity.images) {
      const count = (seen.get(data.camera[image]) || 0) + 1;
      seen.set(data.camera[image], count);
      turns.set(image, count);
    }
    identity.alternating = [...identity.images].sort((a, b) => turns.get(a) - turns.get(b));
    return identity.alternating;
  }

  // The identities that the images of one are most similar to, the most frequent first.
  function neighbours(identity) {
    const counts = new Map();
    for (const image of identity.images) {
      const other = now(data.runnerUp[image]);
      if (other >= 0 && other !== identity.number) counts.set(other, (counts.get(other) || 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }

  // Also of those without an identity.
  function imagesOf(number) {
    const images = [];
    for (let image = 0; image < group.length; image += 1) if (group[image] === number) images.push(image);
    return images;
  }

  // ---------------------------------------------------------------- names

  let named;

  function nameGiven(number) {
    if (!named) {
      named = new Map();
      for (const [image, given] of names) {
        if (given.turn > (named.get(group[image])?.turn ?? 0)) named.set(group[image], given);
      }
    }
    return named.get(number)?.name ?? "";
  }

  const numberOf = (number) => (number < first.length ? `Identity ${number}` : `New identity ${number - first.length + 1}`);
  const nameOf = (number) => nameGiven(number) || numberOf(number);

  // ---------------------------------------------------------------- answers

  const key = (a, b) => `${Math.min(a, b)} ${Math.max(a, b)}`;
  const isApart = (isHere, number) => [...links.values()].some(([answer, a, b]) =>
    answer === "different" && ((isHere(a) && group[b] === number) || (isHere(b) && group[a] === number)));

  // Which images a row moves, and to which identity.
  function moves([answer, a, b]) {
    if (answer === "nobody") return [unit(a), NOBODY];
    const [from, to] = [group[a], group[b]];
    if (answer === "different") {
      const leaves = from === OUTLIER || (from === to && from !== NOBODY && !unit(a).includes(b));
      return leaves ? [unit(a), unused()] : null;
    }
    const both = [...unit(a), ...unit(b)];
    if (from < 0 && to < 0) return [both, unused()];
    if (from < 0 || to < 0 || from === to) return [both, Math.max(from, to)];
    if (!isApart((image) => group[image] === from, to)) {
      const isResult = (number) => number < first.length;
      const [size, otherSize] = [groups.get(from).images.length, groups.get(to).images.length];
      const staysOwn = isResult(from) === isResult(to) ? size > otherSize : isResult(from);
      return staysOwn ? [[...groups.get(to).images, ...both], from] : [[...groups.get(from).images, ...both], to];
    }
    if (!isApart((image) => unit(a).includes(image), to)) return [unit(a), to];
    return isApart((image) => unit(b).includes(image), from) ? null : [unit(b), from];
  }

  // A row is [answer, image, other image, name]; what comes back undoes it. The result respects a known one already.
  function apply(row, isKnown = false) {
    const [answer, image, other, name] = row;
    named = undefined;
    if (answer === "name") {
      const before = names.get(image);
      names.set(image, { name, turn: turn += 1 });
      if (group[image] >= 0) remake(group[image], groups.get(group[image]).images);
      return { row, before };
    }
    const before = links.get(key(image, other));
    count(image, 1);
    if (answer !== "nobody") links.set(key(image, other), row);
    const moved = isKnown && answer !== "nobody" ? null : moves(row);
    return { row, before, moved: moved ? shift(...moved) : new Map() };
  }

  function takeBack({ row: [answer, image, other], before, moved }) {
    named = undefined;
    if (answer === "name") {
      restore(names, image, before);
      if (group[image] >= 0) remake(group[image], groups.get(group[image]).images);
      return;
    }
    count(image, -1);
    if (answer !== "nobody") restore(links, key(image, other), before);
    for (const [number, some] of moved) shift(some, number);
  }

  function count(image, number) {
    asked.set(lead(image), (asked.get(lead(image)) ?? 0) + number);
  }

  function restore(map, where, before) {
    if (before) map.set(where, before);
    else map.delete(where);
  }

  for (const row of data.answers ?? []) apply(row, true);

  return {
    OUTLIER, NOBODY, unit, lead, now, margin, similarityTo, alternating, neighbours, nameGiven, numberOf, nameOf, apply, takeBack,
    groupOf: (image) => group[image],
    identity: (number) => groups.get(number),
    identities: () => [...groups.values()].sort((a, b) => a.number - b.number),
    clustered: () => group.length - imagesOf(OUTLIER).length - imagesOf(NOBODY).length,
    imagesOf,
    isAnswered: (image) => asked.get(lead(image)) > 0,
    areApart: (one, other) => isApart((image) => group[image] === one, other),
    nearest: (image) => now(data.runnerUp[image]),
    links: () => [...links.values()],
    link: (one, other) => links.get(key(one, other)),
    names: () => names,
    numbersFrom: first.length, // of identities that are not in the result
  };
};
