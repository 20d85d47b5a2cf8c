// The keyboard: a button that names a key is pressed by it, on the card that has the focus or in the dialog on top.
"use strict";

window.pageKeys = ({ act, identityDialog, looks, topDialog, setView }) => {
  const byId = (id) => document.getElementById(id);
  const cards = () => [...byId("results").querySelectorAll(".card")];
  const pictures = () => [...byId("identity").querySelectorAll(".grid button")];
  const columns = () => getComputedStyle(byId("results")).gridTemplateColumns.split(" ").length;
  const turnPage = (selector) => () => document.querySelector(`.pager button${selector}`)?.click();

  function walk(stops, distance) {
    const now = stops.findIndex((stop) => stop.contains(document.activeElement));
    const next = stops[now < 0 ? 0 : Math.min(stops.length - 1, Math.max(0, now + distance))];
    next?.focus();
    return next;
  }

  // Letters that mean the same everywhere.
  const EVERYWHERE = {
    d: looks.switchTheme, "+": () => looks.brighten(1), "-": () => looks.brighten(-1), u: act.undo, U: act.redo, s: act.save,
  };
  const ON_PAGE = {
    ...Object.fromEntries(["identities", "hard", "outliers", "merges", "nobody"].map((view, index) => [index + 1, () => askIn(view)])),
    "/": () => byId("query").focus(),
    "?": () => byId("keys").showModal(),
    n: turnPage(":last-child"),
    p: turnPage(":first-child"),
    ArrowRight: () => walk(cards(), 1),
    ArrowLeft: () => walk(cards(), -1),
    ArrowDown: () => walk(cards(), columns()),
    ArrowUp: () => walk(cards(), -columns()),
  };
  const IN_IDENTITY = {
    n: () => identityDialog.step(1),
    p: () => identityDialog.step(-1),
    t: identityDialog.tickFocused,
    ArrowRight: () => walk(pictures(), 1)?.click(),
    ArrowLeft: () => walk(pictures(), -1)?.click(),
  };

  const nextQuestion = () => cards().find((card) => card.matches(":has([data-key]):not(.answered)"))?.focus();

  function askIn(view) {
    setView(view);
    nextQuestion();
  }

  // Without a card in focus nobody has seen a question: the key goes to the first one and answers nothing yet.
  function pressed(key, dialog) {
    if (!/^[a-z]$/.test(key) || dialog === byId("keys")) return null;
    const scope = dialog ?? document.activeElement.closest(".card");
    const button = scope?.querySelector(`[data-key="${key}"]`);
    if (button) return () => button.click();
    return !scope && document.querySelector(`#results [data-key="${key}"]`) ? nextQuestion : null;
  }

  addEventListener("keydown", (event) => {
    const dialog = topDialog();
    const isTyping = event.target.matches("input:not([type=checkbox], [type=range]), select");
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !isTyping && /^[zy]$/i.test(event.key)) {
      event.preventDefault();
      (event.key === "z" ? act.undo : act.redo)();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping) {
      const isLeft = event.key === "Escape" || (event.key === "Enter" && event.target.id === "query");
      if (isLeft && !dialog) byId("results").focus();
      if (event.key === "Enter" && event.target.id === "name") event.target.blur();
      return;
    }
    if (dialog === byId("choice")) return;
    const own = dialog === null ? ON_PAGE : dialog === byId("identity") ? IN_IDENTITY : {};
    const action = pressed(event.key, dialog) ?? own[event.key] ?? (dialog === byId("keys") ? null : EVERYWHERE[event.key]);
    if (action) {
      event.preventDefault();
      action();
    }
  });
};
