// What each view lists, in which order, and what it says of it.
"use strict";

window.identityViews = (data, people, elements, suggestions, state) => {
  const { OUTLIER, NOBODY, margin, now } = people;
  const { plain, grouped, count } = elements;
  const FILTERS = ["query", "minImages", "spread", "camera", "maxTightness"];
  const PER_PAGE = { identities: 30, hard: 48, outliers: 60, merges: 24, nobody: 60 };
  const LAST = Number.MAX_SAFE_INTEGER; // images come after the questions
  const byFile = (a, b) => (data.path[a] < data.path[b] ? -1 : 1);
  const SORTS = {
    identities: {
      largest: ["largest first", (a, b) => b.images.length - a.images.length],
      smallest: ["smallest first", (a, b) => a.images.length - b.images.length],
      cameras: ["most cameras first", (a, b) => b.cameras.length - a.cameras.length],
      loosest: ["loosest first", (a, b) => (a.tightness ?? 1) - (b.tightness ?? 1)],
      tightest: ["tightest first", (a, b) => (b.tightness ?? -1) - (a.tightness ?? -1)],
      number: ["by number", (a, b) => a.number - b.number],
    },
    hard: {
      worth: ["worth most first", (a, b) => (a.place ?? LAST) - (b.place ?? LAST) || margin(a) - margin(b)],
      runnerUp: ["closest runner-up first", (a, b) => margin(a) - margin(b)],
      similarity: ["lowest similarity first", (a, b) => data.similarity[a] - data.similarity[b]],
    },
    outliers: {
      nearest: ["nearest to an identity first", (a, b) => data.runnerUpSimilarity[b] - data.runnerUpSimilarity[a]],
      farthest: ["farthest first", (a, b) => data.runnerUpSimilarity[a] - data.runnerUpSimilarity[b]],
      file: ["by file name", byFile],
    },
    merges: { likeliest: ["likeliest first", (a, b) => b[2] - a[2]] },
    nobody: { file: ["by file name", byFile] },
  };

  let searchable;

  function matches(image) {
    searchable ||= data.path.map(plain);
    return searchable[image].includes(plain(state().query));
  }

  function passes(identity) {
    const { minImages, spread, maxTightness } = state();
    if (minImages && identity.images.length < Number(minImages)) return false;
    if (spread === "one" && identity.cameras.length !== 1) return false;
    if (spread && spread !== "one" && identity.cameras.length < Number(spread)) return false;
    return !maxTightness || (identity.tightness ?? 1) <= Number(maxTightness);
  }

  // Whether the image lies between two identities, as they are now, and nobody has said which one it is of.
  const isOpen = (image) => !people.isAnswered(image) && (data.runnerUp[image] < 0 || margin(image) !== Infinity);

  function shown() {
    const { view, sort, query } = state();
    const camera = state().camera === "" ? null : Number(state().camera);
    const isFound = (image) => !query || matches(image);
    const isShown = (image) => (camera === null || data.camera[image] === camera) && isFound(image);
    const isNamed = (identity) => query && plain(people.nameOf(identity.number)).includes(plain(query));
    const accepted = people.identities().filter(passes);
    const hasShown = (identity) =>
      (camera === null || identity.cameras.includes(camera)) && (isNamed(identity) || identity.images.some(isFound));
    const LISTS = {
      identities: () => accepted.filter(hasShown),
      hard: () => {
        const numbers = new Set(accepted.map((identity) => identity.number));
        const concerns = ({ images, own, other }) => (images.length ? numbers.has(now(own < 0 ? other : own)) && images.some(isShown)
          : [own, other].some((number) => numbers.has(now(number)) && hasShown(people.identity(now(number)))));
        const images = accepted.flatMap((identity) => identity.images.filter((image) =>
          data.identity[image] !== OUTLIER && isOpen(image) && isShown(image))).sort((a, b) => a - b);
        return sort === "worth" ? [...suggestions.openQuestions().filter(concerns), ...images] : images;
      },
      outliers: () => people.imagesOf(OUTLIER).filter(isShown),
      nobody: () => people.imagesOf(NOBODY).filter(isShown),
      merges: () => {
        const numbers = new Set(accepted.filter(hasShown).map((identity) => identity.number));
        return suggestions.likeliestMerges().filter(([one, other]) => {
          const [left, right] = [now(one), now(other)];
          return left !== right && left >= 0 && right >= 0 && (numbers.has(left) || numbers.has(right)) && !people.areApart(left, right);
        });
      },
    };
    return LISTS[view]().sort(SORTS[view][sort][1]);
  }

  function emptyText() {
    if (FILTERS.some((key) => state()[key] !== "")) return "Nothing passes these filters.";
    return {
      identities: "No identities: every image is an outlier. Try a larger eps.",
      hard: "No hard cases: every image has an answer, or no identity.",
      outliers: "No outliers: every image has an identity.",
      merges: "No suggestion is left.",
      nobody: "No image was marked as nobody.",
    }[state().view];
  }

  function statusText(list) {
    const { view } = state();
    const number = grouped(list.length);
    const all = {
      identities: people.identities().length,
      hard: people.clustered(),
      outliers: people.imagesOf(OUTLIER).length,
    }[view] ?? list.length;
    const of = list.length === all ? number : `${number} of ${grouped(all)}`;
    const images = () => list.reduce((sum, identity) => sum + identity.images.length, 0);
    if (view === "identities") return `${of} identities, ${count(images(), "image")}`;
    return {
      hard: list.some(({ place }) => place !== undefined) ? `${number} questions, those worth most first` : `${of} images, the most doubtful first: which side does the one in the middle belong to?`,
      outliers: `${of} images without an identity`,
      merges: `${number} suggestions, the likeliest first: do both sides show one person?`,
      nobody: `${count(list.length, "image")} marked as nobody`,
    }[view];
  }

  return { FILTERS, PER_PAGE, SORTS, matches, shown, emptyText, statusText };
};
