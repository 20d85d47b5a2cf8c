// Draws the page from window.identityData, and answers to mouse and keyboard.
"use strict";

(() => {
  const data = window.identityData;
  const byId = (id) => document.getElementById(id);
  if (!data) {
    byId("status").textContent = "page/data.js is missing: keep the folder “page” beside index.html.";
    return;
  }

  const { OUTLIER, identities, outliers, clustered, margin, alternating, neighbours } = window.byIdentity(data);
  const {
    element, plain, thumbnail, original, cameraName, decimals, count, nameOf, tile, gauge, cameraDot, fileName, card,
  } = window.pageElements(data);
  const PER_PAGE = { identities: 30, hard: 48, outliers: 60 };
  const TILES_PER_CARD = 24; // more than a strip shows
  const SORTS = {
    identities: {
      largest: ["largest first", (a, b) => b.images.length - a.images.length],
      smallest: ["smallest first", (a, b) => a.images.length - b.images.length],
      cameras: ["most cameras first", (a, b) => b.cameras.length - a.cameras.length],
      loosest: ["loosest first", (a, b) => a.tightness - b.tightness],
      tightest: ["tightest first", (a, b) => b.tightness - a.tightness],
      number: ["by number", (a, b) => a.number - b.number],
    },
    hard: {
      runnerUp: ["closest runner-up first", (a, b) => margin(a) - margin(b)],
      similarity: ["lowest similarity first", (a, b) => data.similarity[a] - data.similarity[b]],
    },
    outliers: {
      nearest: ["nearest to an identity first", (a, b) => data.runnerUpSimilarity[b] - data.runnerUpSimilarity[a]],
      farthest: ["farthest first", (a, b) => data.runnerUpSimilarity[a] - data.runnerUpSimilarity[b]],
      file: ["by file name", (a, b) => (data.path[a] < data.path[b] ? -1 : 1)],
    },
  };
  const DEFAULTS = {
    view: "identities", sort: "", query: "", minImages: "", spread: "", camera: "", maxTightness: "", page: "",
    open: "", image: "",
  };
  const FILTERS = ["query", "minImages", "spread", "camera", "maxTightness"];

  let searchable;

  function matches(image) {
    searchable ||= data.path.map(plain);
    return searchable[image].includes(plain(state.query));
  }

  // ---------------------------------------------------------------- state, kept in the address

  let state = { ...DEFAULTS };

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    state = { ...DEFAULTS };
    for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
    if (!Object.hasOwn(SORTS, state.view)) state.view = DEFAULTS.view;
    if (!Object.hasOwn(SORTS[state.view], state.sort)) state.sort = Object.keys(SORTS[state.view])[0];
  }

  function address() {
    const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key] && value !== "");
    return `#${new URLSearchParams(kept)}`;
  }

  function change(changes, { asStep = false } = {}) {
    const page = "page" in changes || "open" in changes ? {} : { page: "" };
    const sort = changes.view && changes.view !== state.view ? { sort: Object.keys(SORTS[changes.view])[0] } : {};
    state = { ...state, ...page, ...sort, ...changes };
    if (asStep) history.pushState(null, "", address());
    else history.replaceState(null, "", address());
    draw();
  }

  // ---------------------------------------------------------------- what is shown

  function passes(identity) {
    if (state.minImages && identity.images.length < Number(state.minImages)) return false;
    if (state.spread === "one" && identity.cameras.length !== 1) return false;
    if (state.spread && state.spread !== "one" && identity.cameras.length < Number(state.spread)) return false;
    return !state.maxTightness || identity.tightness <= Number(state.maxTightness);
  }

  function shown() {
    const camera = state.camera === "" ? null : Number(state.camera);
    const hasCamera = (image) => camera === null || data.camera[image] === camera;
    const isFound = (image) => !state.query || matches(image);
    const { view } = state;
    let chosen;
    if (view === "identities") {
      chosen = identities.filter((identity) =>
        passes(identity) && (camera === null || identity.cameras.includes(camera)) && identity.images.some(isFound));
    } else if (view === "hard") {
      const accepted = new Set(identities.filter(passes).map((identity) => identity.number));
      chosen = clustered.filter((image) => accepted.has(data.identity[image]) && hasCamera(image) && isFound(image));
    } else {
      chosen = outliers.filter((image) => hasCamera(image) && isFound(image));
    }
    return chosen.sort(SORTS[view][state.sort][1]);
  }

  // ---------------------------------------------------------------- cards

  const three = (number) =>
    element("div", { className: "three" }, ...alternating(identities[number]).slice(0, 3).map((image) => tile(image)));

  // One of the identities that an image is compared with.
  function comparison(role, number, similarity, isDoubtful) {
    const made = element("div", { className: "side" }, element("span", {}, role));
    if (number === OUTLIER) made.append("no other identity");
    else {
      made.append(element("h3", {}, nameOf(number)), three(number),
        element("span", {}, gauge(similarity, isDoubtful), ` ${decimals(similarity)}`));
    }
    return made;
  }

  const CARDS = {
    identities(identity) {
      const found = state.query ? identity.images.filter(matches) : [];
      const isFound = new Set(found);
      const ordered = [...found, ...alternating(identity).filter((image) => !isFound.has(image))];
      const strip = element("div", { className: identity.images.length > 8 ? "strip two" : "strip" },
        ...ordered.slice(0, TILES_PER_CARD).map((image) => tile(image, isFound.has(image) ? "found" : "")));
      const facts = `${count(identity.images.length, "image")} · ${count(identity.cameras.length, "camera")}`;
      return card(`${nameOf(identity.number)}, ${facts}`, () => open(identity.number, found[0]),
        element("div", { className: "head" },
          element("h2", {}, nameOf(identity.number)),
          element("p", {}, facts),
          element("p", { title: "Mean similarity of its images to their centroid" },
            "tightness ", gauge(identity.tightness), ` ${decimals(identity.tightness)}`)),
        strip,
        found.length ? fileName(found[0], state.query) : null);
    },

    hard(image) {
      const own = data.identity[image];
      const other = data.runnerUp[image];
      const side = (role, number, similarity) => {
        const made = comparison(role, number, similarity, role === "runner-up");
        if (number !== OUTLIER) made.onclick = (event) => {
          event.stopPropagation();
          open(number, image);
        };
        return made;
      };
      return card(`${data.path[image]}: ${nameOf(own)} or ${nameOf(other)}?`, () => open(own, image),
        element("div", { className: "case" },
          side("assigned to", own, data.similarity[image]),
          tile(image),
          side("runner-up", other, data.runnerUpSimilarity[image])),
        fileName(image, state.query));
    },

    outliers(image) {
      const nearest = data.runnerUp[image];
      return card(`${data.path[image]}, outlier`, () => nearest !== OUTLIER && open(nearest, image),
        element("div", { className: "case single" }, tile(image),
          comparison("nearest", nearest, data.runnerUpSimilarity[image], true)),
        fileName(image, state.query));
    },
  };

  // ---------------------------------------------------------------- an open identity

  const members = window.identityMembers(data, {
    isFound: (image) => state.query !== "" && matches(image),
    choose: (image) => change({ open: state.open, image: String(image) }),
  });

  const dialog = byId("identity");
  let drawnIdentity = null;
  let list = []; // what the filters let through, in order

  function open(number, image) {
    change({ open: String(number), image: image === undefined ? "" : String(image) }, { asStep: true });
  }

  function close() {
    if (state.open !== "") change({ open: "", image: "" }, { asStep: true });
  }

  function step(direction) {
    const order = state.view === "identities" ? list.map((identity) => identity.number) : identities.map((_, number) => number);
    const next = order[order.indexOf(Number(state.open)) + direction];
    if (next !== undefined) change({ open: String(next), image: "" });
  }

  function drawDialog() {
    const identity = identities[Number(state.open)];
    if (state.open === "" || !identity) {
      drawnIdentity = null;
      if (dialog.open) dialog.close();
      return;
    }
    if (drawnIdentity !== identity.number) {
      dialog.replaceChildren(dialogHead(identity), element("div", { className: "body" }, members(identity), element("aside")));
      drawnIdentity = identity.number;
    }
    const opens = !dialog.open;
    if (opens) dialog.showModal();
    const image = state.image === "" ? identity.images[0] : Number(state.image);
    for (const button of dialog.querySelectorAll(".grid button")) {
      button.ariaPressed = String(Number(button.dataset.image) === image);
      // An identity opens at its beginning, unless one image of it was asked for.
      if (opens && button.ariaPressed === "true") button.focus({ preventScroll: state.image === "" });
    }
    if (image in data.path) drawAside(identity, image);
  }

  function dialogHead(identity) {
    const button = (text, title, action) => element("button", { type: "button", title, onclick: action }, text);
    return element("div", { className: "head" },
      element("h2", { id: "identityTitle" }, nameOf(identity.number)),
      element("p", {}, `${count(identity.images.length, "image")} · ${count(identity.cameras.length, "camera")} · `
        + `tightness ${decimals(identity.tightness)}`),
      element("div", { className: "corner" },
        button("‹ Previous", "Previous identity (p)", () => step(-1)),
        button("Next ›", "Next identity (n)", () => step(1)),
        button("Close", "Close (Esc)", close)));
  }

  function drawAside(identity, image) {
    const isVisitor = data.identity[image] !== identity.number;
    const picture = element("img", { className: "large", alt: data.path[image], src: original(image) });
    picture.onerror = () => {
      picture.onerror = null;
      picture.src = thumbnail(image);
    };
    const facts = [
      ["File", data.path[image]],
      ["Camera", data.cameras[data.camera[image]] || "–"],
      ...(data.track[image] < 0 ? [] : [["Track", data.tracks[data.track[image]]]]),
      ...(data.frame[image] < 0 ? [] : [["Frame", String(data.frame[image])]]),
      ["Identity", data.identity[image] === OUTLIER ? "outlier" : String(data.identity[image])],
      ["Similarity", decimals(data.similarity[image])],
      ["Runner-up", data.runnerUp[image] === OUTLIER ? "–"
        : `${nameOf(data.runnerUp[image])}, ${decimals(data.runnerUpSimilarity[image])}`],
    ];
    const others = isVisitor || data.runnerUp[image] === OUTLIER ? [] : [data.runnerUp[image]];
    for (const [number] of neighbours(identity)) if (!others.includes(number)) others.push(number);
    if (isVisitor && data.identity[image] !== OUTLIER) others.unshift(data.identity[image]);
    dialog.querySelector("aside").replaceChildren(
      picture,
      element("dl", {}, ...facts.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)])),
      element("p", {}, element("a", { href: original(image), target: "_blank", rel: "noopener" }, "Open the image")),
      element("h3", {}, others.length ? "Compare with" : ""),
      ...[...new Set(others)].slice(0, 4).map((number) => element("button", {
        type: "button", className: "neighbour", onclick: () => open(number, image),
      }, three(number), element("span", {}, nameOf(number), element("br"),
        element("small", {}, count(identities[number].images.length, "image"))))));
    picture.scrollIntoView({ block: "nearest" }); // a narrow window has it above the images
  }

  // ---------------------------------------------------------------- drawing

  function drawPagers(page, pages) {
    for (const pager of document.querySelectorAll(".pager")) {
      const go = (target) => () => {
        change({ page: String(target) });
        scrollTo({ top: 0 });
      };
      pager.replaceChildren(...(pages <= 1 ? [] : [
        element("button", { type: "button", disabled: page <= 1, onclick: go(page - 1), title: "Previous page (p)" }, "‹ Previous"),
        element("span", {}, `page ${page} of ${pages}`),
        element("button", { type: "button", disabled: page >= pages, onclick: go(page + 1), title: "Next page (n)" }, "Next ›"),
      ]));
    }
  }

  function drawControls() {
    for (const button of document.querySelectorAll("#views button")) {
      button.ariaPressed = String(button.dataset.view === state.view);
    }
    byId("sort").replaceChildren(...Object.entries(SORTS[state.view]).map(([value, [text]]) =>
      element("option", { value, selected: value === state.sort }, text)));
    for (const key of ["query", "minImages", "spread", "camera"]) {
      if (byId(key).value !== state[key]) byId(key).value = state[key];
    }
    byId("maxTightness").value = state.maxTightness || "1";
    byId("maxTightnessValue").textContent = state.maxTightness || "1.00";
    for (const label of document.querySelectorAll(".of-identity")) label.hidden = state.view === "outliers";
    byId("reset").disabled = FILTERS.every((key) => state[key] === "");
  }

  let drawnList = "";

  function draw() {
    drawControls();
    const pages = () => Math.max(1, Math.ceil(list.length / PER_PAGE[state.view]));
    const { open: _open, image: _image, ...ofList } = state;
    if (JSON.stringify(ofList) !== drawnList) {
      drawnList = JSON.stringify(ofList);
      list = shown();
      const page = Math.min(Math.max(1, Number(state.page) || 1), pages());
      const first = (page - 1) * PER_PAGE[state.view];
      const results = byId("results");
      results.dataset.view = state.view;
      results.replaceChildren(...list.slice(first, first + PER_PAGE[state.view]).map(CARDS[state.view]));
      if (!list.length) results.append(element("p", { className: "empty" }, emptyText()));
      byId("status").textContent = statusText();
      drawPagers(page, pages());
    }
    drawDialog();
  }

  function emptyText() {
    if (FILTERS.some((key) => state[key] !== "")) return "Nothing passes these filters.";
    return state.view === "outliers" ? "No outliers: every image has an identity." : "No identities: every image is an outlier. Try a larger eps.";
  }

  function statusText() {
    if (state.view === "identities") {
      const images = list.reduce((sum, identity) => sum + identity.images.length, 0);
      const all = list.length === identities.length ? "" : ` of ${identities.length.toLocaleString("en")}`;
      return `${list.length.toLocaleString("en")}${all} identities, ${count(images, "image")}`;
    }
    const total = state.view === "hard" ? clustered.length : outliers.length;
    return `${list.length.toLocaleString("en")}${list.length === total ? "" : ` of ${total.toLocaleString("en")}`} `
      + (state.view === "hard" ? "images, the most doubtful first: which side does the one in the middle belong to?" : "images without an identity");
  }

  function drawFrame() {
    const acrossCameras = identities.filter((identity) => identity.cameras.length > 1).length;
    const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");
    const summary = [
      ["images", data.path.length.toLocaleString("en")],
      ["identities", identities.length.toLocaleString("en")],
      [data.cameras.length === 1 ? "camera" : "cameras", String(data.cameras.length)],
      ["of them at 2 or more cameras", share(acrossCameras, identities.length)],
      ["outliers", `${outliers.length.toLocaleString("en")} (${share(outliers.length, data.path.length)})`],
    ];
    byId("summary").append(...summary.map(([term, value]) =>
      element("div", {}, element("dt", {}, term), element("dd", {}, value))));
    byId("folder").textContent = `in ${data.folder}`;
    document.title = `Identities in ${data.folder}`;
    byId("settings").textContent = Object.entries(data.settings).map(([key, value]) => `${key} ${value}`).join(" · ");
    byId("camera").append(element("option", { value: "" }, "any camera"),
      ...data.cameras.map((_, camera) => element("option", { value: String(camera) }, cameraName(camera))));
    const tightest = Math.min(1, ...identities.map((identity) => identity.tightness));
    byId("maxTightness").min = String(Math.max(0, Math.floor(tightest * 20) / 20));
    const aspect = Math.min(2, Math.max(0.3, data.aspect));
    document.documentElement.style.setProperty("--aspect", String(aspect));
    // Wide pictures get wider tiles, so that all have about the same area.
    document.documentElement.style.setProperty("--tile", `${Math.round(88 * Math.sqrt(aspect / 0.5))}px`);
  }

  function switchTheme() {
    const root = document.documentElement.style;
    const isDark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.colorScheme = isDark ? "light" : "dark";
  }

  // ---------------------------------------------------------------- events

  function listen() {
    for (const button of document.querySelectorAll("#views button")) {
      button.onclick = () => change({ view: button.dataset.view }, { asStep: true });
    }
    for (const key of ["query", "minImages"]) byId(key).oninput = (event) => change({ [key]: event.target.value });
    for (const key of ["sort", "spread", "camera"]) byId(key).onchange = (event) => change({ [key]: event.target.value });
    byId("maxTightness").oninput = ({ target }) =>
      change({ maxTightness: target.value === "1" ? "" : Number(target.value).toFixed(2) });
    byId("reset").onclick = () => change(Object.fromEntries(FILTERS.map((key) => [key, ""])));
    byId("theme").onclick = switchTheme;
    byId("help").onclick = () => byId("keys").showModal();
    dialog.addEventListener("close", close);
    dialog.addEventListener("click", (event) => event.target === dialog && close());
    addEventListener("popstate", () => {
      readAddress();
      draw();
    });
    addEventListener("keydown", onKey);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select")) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "query")) byId("results").focus();
      return;
    }
    const action = dialog.open ? dialogKeys[event.key] : byId("keys").open ? null : pageKeys[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  const turnPage = (selector) => () => document.querySelector(`.pager button${selector}`)?.click();
  const pageKeys = {
    1: () => change({ view: "identities" }, { asStep: true }),
    2: () => change({ view: "hard" }, { asStep: true }),
    3: () => change({ view: "outliers" }, { asStep: true }),
    "/": () => byId("query").focus(),
    "?": () => byId("keys").showModal(),
    d: switchTheme,
    n: turnPage(":last-child"),
    p: turnPage(":first-child"),
    ArrowRight: () => walk([...byId("results").querySelectorAll(".card")], 1),
    ArrowLeft: () => walk([...byId("results").querySelectorAll(".card")], -1),
    ArrowDown: () => walk([...byId("results").querySelectorAll(".card")], columns()),
    ArrowUp: () => walk([...byId("results").querySelectorAll(".card")], -columns()),
  };
  const dialogKeys = {
    n: () => step(1),
    p: () => step(-1),
    d: switchTheme,
    ArrowRight: () => walk([...dialog.querySelectorAll(".grid button")], 1)?.click(),
    ArrowLeft: () => walk([...dialog.querySelectorAll(".grid button")], -1)?.click(),
  };

  const columns = () => getComputedStyle(byId("results")).gridTemplateColumns.split(" ").length;

  function walk(stops, distance) {
    const now = stops.indexOf(document.activeElement);
    const next = stops[now < 0 ? 0 : Math.min(stops.length - 1, Math.max(0, now + distance))];
    next?.focus();
    return next;
  }

  drawFrame();
  listen();
  readAddress();
  draw();
  document.documentElement.dataset.ready = "true";
})();
