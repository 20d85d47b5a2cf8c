// Draws the page from window.identityData, and answers to mouse and keyboard.
"use strict";

(() => {
  const data = window.identityData;
  const byId = (id) => document.getElementById(id);
  if (!data) {
    byId("status").textContent = "page/data.js is missing: keep the folder “page” beside index.html.";
    return;
  }

  const people = window.byIdentity(data);
  const elements = window.pageElements(data, people);
  const { element, grouped, cameraName } = elements;
  const suggestions = window.identitySuggestions(data, people);
  const corrections = window.identityCorrections(data, people, answered);
  const looks = window.pageLooks();
  const DEFAULTS = {
    view: "identities", sort: "", query: "", minImages: "", spread: "", camera: "", maxTightness: "", page: "",
    open: "", image: "", beside: "",
  };

  let state = { ...DEFAULTS };
  const { FILTERS, PER_PAGE, SORTS, matches, shown, emptyText, statusText } =
    window.identityViews(data, people, elements, suggestions, () => state);

  // ---------------------------------------------------------------- state, kept in the address

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

  function change(changes, { asStep = false, isDrawn = true } = {}) {
    const page = ["page", "open", "beside"].some((key) => key in changes) ? {} : { page: "" };
    const sort = changes.view && changes.view !== state.view ? { sort: Object.keys(SORTS[changes.view])[0] } : {};
    state = { ...state, ...page, ...sort, ...changes };
    if (asStep) history.pushState(null, "", address());
    else history.replaceState(null, "", address());
    if (isDrawn) draw();
  }

  // ---------------------------------------------------------------- what is made elsewhere

  let list = []; // what the filters let through, in order

  function open(number, image) {
    change({ open: String(number), image: image === undefined ? "" : String(image) }, { asStep: true });
  }

  const openPair = (left, right) => change({ beside: `${left} ${right}` }, { asStep: true });
  const order = () => (state.view === "identities" ? list : people.identities()).map((identity) => identity.number);

  function say(text, isBad = false) {
    for (const place of document.querySelectorAll(".said")) {
      place.textContent = text;
      place.classList.toggle("bad", isBad);
    }
  }

  // By keyboard, the next card without an answer is the next question.
  function answeredCard(byKey) {
    if (!byKey || topDialog()) return;
    const all = [...byId("results").querySelectorAll(".card")];
    const here = all.indexOf(document.activeElement.closest(".card"));
    const next = [...all.slice(here + 1), ...all.slice(0, Math.max(0, here))].find((one) => !one.matches(".answered"));
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
  }

  const shared = {
    data, people, elements, suggestions, corrections, say, answeredCard, change, open, openPair, order, matches,
    state: () => state,
    isFound: (image) => state.query !== "" && matches(image),
  };
  shared.choice = window.identityChoice(shared);
  shared.act = window.identityActs(shared);
  const { fill, renew } = window.identityCards(shared);
  const identityDialog = window.identityDialog(shared);
  const pairDialog = window.identityPair(shared);
  // The one on top comes last.
  const topDialog = () => ["identity", "pair", "choice", "keys"].map(byId).findLast((one) => one.open) ?? null;

  // ---------------------------------------------------------------- drawing

  function drawPagers() {
    const [now, last] = [page(), pages()];
    for (const pager of document.querySelectorAll(".pager")) {
      const go = (target) => () => {
        change({ page: String(target) });
        scrollTo({ top: 0 });
      };
      pager.replaceChildren(...(last <= 1 ? [] : [
        element("button", { type: "button", disabled: now <= 1, onclick: go(now - 1), title: "Previous page (p)" }, "‹ Previous"),
        element("span", {}, `page ${now} of ${last}`),
        element("button", { type: "button", disabled: now >= last, onclick: go(now + 1), title: "Next page (n)" }, "Next ›"),
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
    const { open: _open, image: _image, beside: _beside, ...ofList } = state;
    if (JSON.stringify(ofList) !== drawnList) {
      drawnList = JSON.stringify(ofList);
      drawList();
    }
    identityDialog.draw();
    pairDialog.draw();
  }

  let listed = ""; // what the list was made for, whatever its page
  let isBehind = false; // an answer in a dialog has changed what lies below it

  function drawList() {
    const { page: _page, ...all } = JSON.parse(drawnList);
    if (listed !== JSON.stringify(all) || state.view === "identities") list = shown();
    listed = JSON.stringify(all);
    const results = byId("results");
    fill(results, onPage());
    if (!list.length) results.append(element("p", { className: "empty" }, emptyText()));
    byId("status").textContent = statusText(list);
    drawPagers();
  }

  const pages = () => Math.max(1, Math.ceil(list.length / PER_PAGE[state.view]));
  const page = () => Math.min(Math.max(1, Number(state.page) || 1), pages());
  const onPage = () => list.slice((page() - 1) * PER_PAGE[state.view], page() * PER_PAGE[state.view]);

  // After an answer: questions keep their places until the view is asked for again.
  function renewList() {
    isBehind = topDialog() !== null;
    if (isBehind) return;
    if (state.view === "identities" && listed) drawList();
    else renew([...byId("results").querySelectorAll(".card")], onPage());
  }

  function answered() {
    drawSummary();
    drawAnswers();
    identityDialog.draw();
    pairDialog.draw();
    renewList();
  }

  function drawAnswers() {
    byId("undo").disabled = !corrections.canUndo();
    byId("redo").disabled = !corrections.canRedo();
    byId("save").disabled = !corrections.steps();
    byId("save").textContent = `Save corrections${corrections.steps() ? ` (${corrections.steps()})` : ""}`;
    const trouble = corrections.trouble();
    byId("trouble").hidden = trouble === "";
    byId("trouble").textContent = trouble;
  }

  function drawSummary() {
    const identities = people.identities();
    const outliers = people.imagesOf(people.OUTLIER).length;
    const acrossCameras = identities.filter((identity) => identity.cameras.length > 1).length;
    const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");
    const summary = [
      ["images", grouped(data.path.length)],
      ["identities", grouped(identities.length)],
      [data.cameras.length === 1 ? "camera" : "cameras", String(data.cameras.length)],
      ["of them at 2 or more cameras", share(acrossCameras, identities.length)],
      ["outliers", `${grouped(outliers)} (${share(outliers, data.path.length)})`],
    ];
    byId("summary").replaceChildren(...summary.map(([term, value]) =>
      element("div", {}, element("dt", {}, term), element("dd", {}, value))));
  }

  function drawFrame() {
    drawSummary();
    byId("folder").textContent = `in ${data.folder}`;
    document.title = `Identities in ${data.folder}`;
    byId("settings").textContent = Object.entries(data.settings).map(([key, value]) => `${key} ${value}`).join(" · ");
    byId("camera").append(element("option", { value: "" }, "any camera"),
      ...data.cameras.map((_, camera) => element("option", { value: String(camera) }, cameraName(camera))));
    const tightest = people.identities().reduce((least, identity) => Math.min(least, identity.tightness), 1);
    byId("maxTightness").min = String(Math.max(0, Math.floor(tightest * 20) / 20));
    const aspect = Math.min(2, Math.max(0.3, data.aspect));
    document.documentElement.style.setProperty("--aspect", String(aspect));
    // Wide pictures get wider tiles, so that all have about the same area.
    document.documentElement.style.setProperty("--tile", `${Math.round(88 * Math.sqrt(aspect / 0.5))}px`);
  }

  // ---------------------------------------------------------------- events

  function setView(view) {
    listed = "";
    drawnList = "";
    change({ view }, { asStep: true });
  }

  function listen() {
    for (const button of document.querySelectorAll("#views button")) button.onclick = () => setView(button.dataset.view);
    for (const key of ["query", "minImages"]) byId(key).oninput = (event) => change({ [key]: event.target.value });
    for (const key of ["sort", "spread", "camera"]) byId(key).onchange = (event) => change({ [key]: event.target.value });
    byId("maxTightness").oninput = ({ target }) =>
      change({ maxTightness: target.value === "1" ? "" : Number(target.value).toFixed(2) });
    byId("reset").onclick = () => change(Object.fromEntries(FILTERS.map((key) => [key, ""])));
    byId("theme").onclick = looks.switchTheme;
    byId("help").onclick = () => byId("keys").showModal();
    for (const name of ["undo", "redo", "save"]) byId(name).onclick = shared.act[name];
    byId("open").onclick = () => byId("file").click();
    byId("file").onchange = async ({ target }) => {
      if (target.files.length) await shared.act.open(target.files[0]);
      target.value = "";
    };
    for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", () => isBehind && renewList());
    addEventListener("popstate", () => {
      readAddress();
      draw();
    });
    window.pageKeys({ ...shared, identityDialog, looks, topDialog, setView });
  }

  drawFrame();
  listen();
  readAddress();
  draw();
  drawAnswers();
  document.documentElement.dataset.ready = "true";
})();
