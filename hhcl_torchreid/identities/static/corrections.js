// What was answered so far: undone and redone, kept in the browser, shared by its windows, saved to a file and read from it.
"use strict";

window.identityCorrections = (data, people, changed) => {
  // A server keeps the answers itself, and the browser only those of its time.
  const PLACE = `hhcl_torchreid corrections ${data.id}${data.isServed ? location.pathname : ""}`;
  const table = window.correctionsTable(data);
  let steps = []; // rows that one answer has made
  let undone = []; // the last one undone comes last
  let deltas = []; // what takes each step back
  let kept = ""; // as the browser has it
  let isKept = true;
  let isSending = false;
  let isBehind = false; // what the server has
  let refusal = "";

  function advance(rows) {
    steps.push(rows);
    deltas.push(rows.map((row) => people.apply(row)));
  }

  function retreat() {
    for (const delta of deltas.pop().reverse()) people.takeBack(delta);
    return steps.pop();
  }

  function keep() {
    kept = JSON.stringify({ steps, undone });
    try {
      localStorage.setItem(PLACE, kept);
      isKept = true;
    } catch {
      isKept = false; // full, or not allowed: the file is left
    }
    if (data.isServed) send();
  }

  // One table at a time, so that the last one stays.
  async function send() {
    isBehind = true;
    if (isSending) return;
    isSending = true;
    const before = refusal;
    while (isBehind) {
      isBehind = false;
      try {
        const answer = await fetch(`corrections.csv?id=${data.id}`, { method: "POST", body: table.write(steps.flat()) });
        refusal = answer.ok ? "" : await answer.text();
      } catch {
        refusal = "hhcl review has ended";
      }
    }
    isSending = false;
    if (refusal !== before) changed([]);
  }

  // Another window may have answered: what both have in common stays as it is.
  function follow() {
    let found;
    try {
      found = localStorage.getItem(PLACE) ?? "";
    } catch {
      isKept = false;
      return false;
    }
    if (found === kept || !isKept) return false;
    kept = found;
    let theirs;
    try {
      theirs = JSON.parse(found || '{"steps":[],"undone":[]}');
    } catch {
      return false; // not written by this page
    }
    let common = 0;
    while (common < steps.length && JSON.stringify(steps[common]) === JSON.stringify(theirs.steps[common])) common += 1;
    while (steps.length > common) retreat();
    theirs.steps.slice(common).forEach(advance);
    undone = theirs.undone;
    return true;
  }

  function answer(given) {
    if (!given.length) return false;
    const rows = given.map(([kind, image, other, name = ""]) => [kind, image, other, name]);
    advance(rows);
    undone = [];
    keep();
    changed(rows);
    return true;
  }

  function undo() {
    follow();
    if (!steps.length) return;
    undone.push(retreat());
    keep();
    changed(undone.at(-1));
  }

  function redo() {
    follow();
    if (!undone.length) return;
    advance(undone.pop());
    keep();
    changed(steps.at(-1));
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table.write(steps.flat())], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // One step, so that it can be undone; rows that hold already are left out.
  async function open(file) {
    const bytes = await file.arrayBuffer();
    let rows;
    try {
      rows = table.read(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (error) {
      throw new Error(error instanceof TypeError ? "it is not UTF-8" : error.message, { cause: error });
    }
    follow();
    const given = new Set(steps.flat().map((row) => JSON.stringify(row)));
    const added = rows.filter((row) => !given.has(JSON.stringify(row)));
    answer(added);
    return { rows: rows.length, added: added.length };
  }

  addEventListener("storage", (event) => {
    if ((event.key === PLACE || event.key === null) && follow()) changed(null);
  });
  follow();
  if (data.given && !steps.length && !undone.length) {
    const rows = table.read(data.given);
    if (rows.length) advance(rows);
  }

  return {
    answer, undo, redo, save, open, follow,
    canUndo: () => steps.length > 0,
    canRedo: () => undone.length > 0,
    trouble: () => [
      refusal && `Not saved: ${refusal.trim()}.`,
      !refusal && !isKept && !data.isServed && "This browser keeps nothing: save before you leave.",
      window.identityContradiction(data, [...(data.answers ?? []), ...steps.flat()]),
    ].filter(Boolean).join(" "),
    count: () => steps.reduce((sum, rows) => sum + rows.length, 0),
    steps: () => steps.length,
  };
};
