// The data by identity: what page.js shows of window.identityData.
"use strict";

window.byIdentity = (data) => {
  const OUTLIER = -1;
  const margin = (image) =>
    data.runnerUp[image] === OUTLIER ? Infinity : data.similarity[image] - data.runnerUpSimilarity[image];

  const identities = [];
  const outliers = [];
  const clustered = [];
  data.identity.forEach((number, image) => {
    if (number === OUTLIER) {
      outliers.push(image);
      return;
    }
    clustered.push(image);
    (identities[number] ||= { number, images: [] }).images.push(image);
  });
  for (const identity of identities) {
    identity.images.sort((a, b) => data.similarity[b] - data.similarity[a]);
    identity.cameras = [...new Set(identity.images.map((image) => data.camera[image]))].sort((a, b) => a - b);
    identity.tightness = mean(identity.images.map((image) => data.similarity[image]));
  }

  function mean(values) {
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  }

  // The first images of each camera before the second ones, the most similar to the centroid first.
  function alternating(identity) {
    if (identity.alternating) return identity.alternating;
    const seen = new Map();
    const turn = new Map();
    for (const image of identity.images) {
      const count = (seen.get(data.camera[image]) || 0) + 1;
      seen.set(data.camera[image], count);
      turn.set(image, count);
    }
    identity.alternating = [...identity.images].sort((a, b) => turn.get(a) - turn.get(b));
    return identity.alternating;
  }

  // The identities that the images of one are most similar to, the most frequent first.
  function neighbours(identity) {
    const counts = new Map();
    for (const image of identity.images) {
      const other = data.runnerUp[image];
      if (other !== OUTLIER) counts.set(other, (counts.get(other) || 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }

  return { OUTLIER, identities, outliers, clustered, margin, alternating, neighbours };
};
