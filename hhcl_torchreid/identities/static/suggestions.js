// What the page proposes: identities that may be one, and the part of an identity that may be another one.
"use strict";

window.identitySuggestions = (data, people) => {
  const MOST = 2000;
  let merges;

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

  return { likeliestMerges, leastAlike };
};
