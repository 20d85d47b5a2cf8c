// What the page asks and proposes: the questions worth most, identities that may be one, the part that may be another one.
"use strict";

window.identitySuggestions = (data, people) => {
  const MOST = 2000;
  let merges;
  const questions = (data.questions ?? []).map(([images, own, other, similarity], place) => ({ images, own, other, similarity, place }));

  // Of two identities while they are two; of a part while it is one, beside others, and nobody has said whose it is.
  function isOpen({ images, own, other }) {
    const [here, there] = [people.now(own), people.now(other)];
    if (!images.length) return here !== there && here >= 0 && there >= 0 && !people.areApart(here, there);
    const number = people.groupOf(images[0]);
    return !people.isAnswered(images[0]) && number !== people.NOBODY && images.every((image) => people.groupOf(image) === number)
      && (number < 0 ? there >= 0 : people.identity(number).images.length > images.length);
  }

  // An image knows its similarity to one other identity, the nearest. Two pieces of one person are nearest to each other
  // with nearly all their images, so that the mean over the images, 0 for those that are nearer to a third, is high.
  function likeliestMerges() {
    if (merges) return merges;
    const [sums, sizes] = [new Map(), []];
    data.identity.forEach((number, image) => {
      if (number < 0) return;
      sizes[number] = (sizes[number] ?? 0) + 1;
      const other = data.runnerUp[image];
      if (other < 0) return;
      if (!sums.has(number)) sums.set(number, new Map());
      sums.get(number).set(other, (sums.get(number).get(other) ?? 0) + data.runnerUpSimilarity[image]);
    });
    const mean = (one, other) => (sums.get(one)?.get(other) ?? 0) / sizes[one];
    const pairs = [];
    for (const [one, others] of sums) {
      for (const other of others.keys()) {
        if (one < other || !sums.get(other)?.has(one)) {
          pairs.push([Math.min(one, other), Math.max(one, other), (mean(one, other) + mean(other, one)) / 2]);
        }
      }
    }
    merges = pairs.sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]).slice(0, MOST);
    return merges;
  }

  // The images below the widest gap between similarities to the centroid, at most half of them.
  function leastAlike(identity) {
    const { number, images } = identity;
    const alike = images.filter((image) => data.identity[image] === number);
    const rest = images.filter((image) => data.identity[image] !== number);
    let [place, widest] = [alike.length, 0];
    for (let index = Math.ceil(alike.length / 2); index < alike.length; index += 1) {
      const gap = data.similarity[alike[index - 1]] - data.similarity[alike[index]];
      if (index > 0 && gap > widest) [place, widest] = [index, gap];
    }
    const isUnsettled = (image) => !people.isAnswered(image);
    return [...alike.slice(place), ...rest].filter(isUnsettled);
  }

  return { likeliestMerges, leastAlike, openQuestions: () => questions.filter(isOpen) };
};
