// Two identities side by side, and the choice of one among all.
"use strict";

window.identityPair = ({ people, elements, act, state, change }) => {
  const IMAGES = 120; // of each side
  const { element, count, facts, tile, button, choices } = elements;
  const dialog = document.getElementById("pair");
  let drawn = "";

  const close = () => state().beside !== "" && change({ beside: "" }, { asStep: true });

  function side(number) {
    const identity = people.identity(number);
    const images = people.alternating(identity);
    const rest = images.length - IMAGES;
    return element("section", { className: "column", ariaLabel: people.nameOf(number) },
      element("h3", {}, people.nameOf(number)),
      element("p", {}, facts(identity)),
      element("div", { className: "grid" }, ...images.slice(0, IMAGES).map((image) => tile(image))),
      rest > 0 ? element("p", {}, `and ${count(rest, "more image")}`) : null);
  }

  function draw() {
    const [left, right] = state().beside.split(" ").map((text) => people.identity(Number(text)));
    if (state().beside === "" || !left || !right || left === right) {
      drawn = "";
      if (state().beside !== "") change({ beside: "" });
      if (dialog.open) dialog.close();
      return;
    }
    if (drawn === `${left.version} ${right.version}`) return;
    drawn = `${left.version} ${right.version}`;
    const answer = (how) => (byKey) => {
      close();
      how(left.number, right.number, byKey);
    };
    dialog.replaceChildren(
      element("div", { className: "head" },
        element("h2", { id: "pairTitle" }, "One person or two?"),
        choices("One person?", [
          ["c", "One person", "Merge them", answer(act.merge)],
          ["a", "Two people", "Keep them apart", answer(act.apart), people.areApart(left.number, right.number)],
        ]),
        element("div", { className: "corner" }, button("Close", "Close (Esc)", close))),
      element("div", { className: "columns", tabIndex: 0, role: "region", ariaLabel: "Images of both" },
        side(left.number), side(right.number)));
    if (!dialog.open) dialog.showModal();
  }

  dialog.addEventListener("cancel", close); // before the next key
  dialog.addEventListener("close", close);
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  return { draw };
};

window.identityChoice = ({ people, elements }) => {
  const AT_ONCE = 20;
  const { element, facts, plain, three } = elements;
  const dialog = document.getElementById("choice");
  const [title, query, list] = ["choiceTitle", "choiceQuery", "choiceList"].map((id) => document.getElementById(id));
  let [likely, excluded, chosen] = [[], -1, () => {}];

  function candidates() {
    const text = plain(query.value.trim());
    const first = likely.map((number) => people.identity(number));
    const all = [...first, ...people.identities().filter((identity) => !likely.includes(identity.number))];
    const isFound = ({ number }) => plain(people.nameOf(number)).includes(text) || plain(people.numberOf(number)).includes(text);
    // A number alone means that identity before those whose numbers hold it.
    const isExact = ({ number }) => text !== "" && (String(number) === text || plain(people.nameOf(number)) === text);
    const found = all.filter((identity) => identity.number !== excluded && isFound(identity));
    return [...found.filter(isExact), ...found.filter((identity) => !isExact(identity))].slice(0, AT_ONCE);
  }

  function draw() {
    list.replaceChildren(...candidates().map((identity) => element("button", {
      type: "button", className: "neighbour", onclick: () => take(identity.number), dataset: { number: identity.number },
    }, three(people.alternating(identity)), element("span", {}, people.nameOf(identity.number), element("br"),
      element("small", {}, facts(identity))))));
    if (!list.children.length) list.append(element("p", { className: "empty" }, "No identity has this name or number."));
  }

  function take(number) {
    dialog.close();
    chosen(number);
  }

  // Asks for one identity; the likely ones come first, and without is not among them.
  function ask(question, numbers, without, then) {
    [likely, excluded, chosen] = [[...new Set(numbers)].filter((number) => people.identity(number)), without, then];
    title.textContent = question;
    query.value = "";
    draw();
    dialog.showModal();
    list.scrollTop = 0;
    query.focus();
  }

  query.oninput = draw;
  dialog.addEventListener("keydown", (event) => {
    const stops = [query, ...list.querySelectorAll("button")];
    const here = stops.indexOf(document.activeElement);
    if (event.key === "Enter" && here === 0) list.querySelector("button")?.click();
    else if (event.key === "ArrowDown") stops[Math.min(stops.length - 1, here + 1)].focus();
    else if (event.key === "ArrowUp") stops[Math.max(0, here - 1)].focus();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return { ask };
};
