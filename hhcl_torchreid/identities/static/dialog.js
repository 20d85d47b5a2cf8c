// An open identity: its images, one of them large, and what can be said of that one or of the ticked ones.
"use strict";

window.identityDialog = ({ data, people, elements, suggestions, act, state, change, open, openPair, order, isFound }) => {
  const { OUTLIER, NOBODY, groupOf, nameOf, neighbours, alternating } = people;
  const { element, thumbnail, original, decimals, count, facts, three, button, choices } = elements;
  const dialog = document.getElementById("identity");
  const ticked = new Set();
  let drawn = null; // the identity as it was drawn

  const members = window.identityMembers({ data, people, elements }, {
    isFound,
    choose: (image) => change({ open: state().open, image: String(image) }),
    isTicked: (image) => ticked.has(image),
    tick: (image, isOn) => {
      for (const other of people.unit(image)) if (isOn) ticked.add(other); else ticked.delete(other);
      showTicks();
    },
  });

  function showTicks() {
    for (const member of dialog.querySelectorAll(".member")) {
      member.querySelector("input").checked = ticked.has(Number(member.querySelector("button").dataset.image));
    }
    drawAside(people.identity(Number(state().open)), chosen());
  }

  function close() {
    if (state().open !== "") change({ open: "", image: "" }, { asStep: true });
  }

  function step(direction) {
    const numbers = order();
    const next = numbers[numbers.indexOf(Number(state().open)) + direction];
    if (next !== undefined) change({ open: String(next), image: "" });
  }

  const chosen = () => (state().image === "" ? people.identity(Number(state().open)).images[0] : Number(state().image));

  // ---------------------------------------------------------------- answers

  const asked = () => (ticked.size ? [...ticked] : [chosen()]);

  // Answers, and goes on with the next image that the answer does not concern.
  function answer(how) {
    const images = asked();
    const concerned = new Set(images.flatMap(people.unit));
    const all = [...dialog.querySelectorAll(".grid button")].map((one) => Number(one.dataset.image));
    const here = all.findIndex((image) => concerned.has(image));
    const next = [...all.slice(here + 1), ...all.slice(0, Math.max(0, here)).reverse()].find((image) => !concerned.has(image));
    const hadFocus = document.activeElement?.closest(".grid, .choices") !== null;
    ticked.clear();
    change({ open: state().open, image: next === undefined ? "" : String(next) }, { isDrawn: false });
    how(images);
    if (hadFocus) focusChosen();
  }

  function focusChosen() {
    dialog.querySelector(".grid [aria-pressed=true]")?.focus({ preventScroll: true });
    dialog.querySelector(".grid [aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
  }

  function questions(identity) {
    const images = asked();
    const nearest = people.nearest(images[0]);
    const isHere = images.some((image) => groupOf(image) === identity.number);
    return choices(ticked.size ? "The ticked images" : "This image", [
      ["c", "Confirm", `It is ${nameOf(identity.number)}`, isHere && !act.can.confirm(images[0], identity.number) ? null
        : () => answer((all) => act.is(all, identity.number))],
      ["r", "Runner-up", nearest < 0 ? "" : `It is ${nameOf(nearest)}`, nearest < 0 || nearest === identity.number ? null
        : () => answer((all) => act.is(all, nearest))],
      ["o", "Other…", "Choose another identity", () => act.elsewhere(images, false, answer)],
      ["a", "New", "A new identity, apart from this one", act.can.split(images) ? () => answer((all) => act.split(all)) : null],
      ["x", "Nobody", "The picture shows nobody, or several", () => answer((all) => act.nobody(all))],
    ]);
  }

  // ---------------------------------------------------------------- drawing

  function draw() {
    let identity = state().open === "" ? undefined : people.identity(Number(state().open));
    if (!identity && state().open !== "") {
      const became = drawn ? groupOf(drawn.images[0]) : people.now(Number(state().open));
      identity = people.identity(became);
      if (identity) return change({ open: String(became), image: "" });
    }
    if (!identity) {
      drawn = null;
      if (dialog.open) dialog.close();
      return undefined;
    }
    if (drawn !== identity) fill(identity);
    const opens = !dialog.open;
    if (opens) dialog.showModal();
    const image = chosen();
    // A track that is one picture stands for all of its images.
    const shows = (one, other) => one === other || (people.lead(one) === people.lead(other) && !isDrawn(other));
    for (const one of dialog.querySelectorAll(".grid button")) {
      one.ariaPressed = String(shows(Number(one.dataset.image), image));
      one.parentElement.classList.toggle("answered", people.isAnswered(Number(one.dataset.image)));
    }
    // An identity opens at its beginning, unless one image of it was asked for; never in the name, where keys are letters.
    const pressed = dialog.querySelector(".grid [aria-pressed=true]");
    if (opens) (pressed ?? dialog.querySelector(".grid button")).focus({ preventScroll: state().image === "" || !pressed });
    if (image in data.path) drawAside(identity, image);
    return undefined;
  }

  const isDrawn = (image) => dialog.querySelector(`.grid [data-image="${image}"]`) !== null;

  function fill(identity) {
    const isSame = drawn?.number === identity.number;
    if (!isSame) ticked.clear();
    const scrolled = isSame ? dialog.querySelector(".members").scrollTop : 0;
    const hadFocus = isSame && dialog.querySelector(".members").contains(document.activeElement);
    dialog.replaceChildren(head(identity), element("div", { className: "body" }, members(identity), element("aside")));
    dialog.querySelector(".members").scrollTop = scrolled;
    drawn = identity;
    if (hadFocus) queueMicrotask(focusChosen);
  }

  function head(identity) {
    const { number } = identity;
    const given = people.nameGiven(number);
    const name = element("input", {
      value: given, placeholder: "Name", ariaLabel: "Name of this identity", maxLength: 80, autocomplete: "off", id: "name",
      onchange: () => act.name(number, name.value),
    });
    const proposed = suggestions.leastAlike(identity);
    const tickProposed = () => {
      for (const image of proposed.flatMap(people.unit)) if (groupOf(image) === number) ticked.add(image);
      showTicks();
    };
    return element("div", { className: "head" },
      element("h2", { id: "identityTitle" }, nameOf(number)),
      element("p", {}, `${facts(identity)} · tightness ${decimals(identity.tightness)}`),
      name,
      button("Merge with…", "Choose an identity that is the same person (m)", () => act.mergeWith(number), { dataset: { key: "m" } }),
      button("Side by side…", "Choose an identity to compare with (b)", () => act.compareWith(number), { dataset: { key: "b" } }),
      proposed.length && proposed.length < identity.images.length
        ? button(`Tick ${count(proposed.length, "doubtful one")}`, "Ticks the images below the widest gap of similarity (g)",
          tickProposed, { dataset: { key: "g" } })
        : null,
      element("div", { className: "corner" },
        button("Undo", "Take the last answer back (u)", act.undo, { disabled: !act.can.undo() }),
        button("‹ Previous", "Previous identity (p)", () => step(-1)),
        button("Next ›", "Next identity (n)", () => step(1)),
        button("Close", "Close (Esc)", close)),
      element("p", { className: "said", role: "status" }));
  }

  function drawAside(identity, image) {
    const isVisitor = groupOf(image) !== identity.number;
    const picture = element("img", { className: "large", alt: data.path[image], src: original(image) });
    picture.onerror = () => {
      picture.onerror = null;
      picture.src = thumbnail(image);
    };
    const number = groupOf(image);
    const nearest = people.nearest(image);
    const lines = [
      ["File", data.path[image]],
      ["Camera", data.cameras[data.camera[image]] || "–"],
      ...(data.track[image] < 0 ? [] : [["Track", data.tracks[data.track[image]]]]),
      ...(data.frame[image] < 0 ? [] : [["Frame", String(data.frame[image])]]),
      ["Identity", number === OUTLIER ? "outlier" : number === NOBODY ? "nobody" : nameOf(number)],
      ["Similarity", decimals(people.similarityTo(number, image))],
      ["Runner-up", nearest < 0 ? "–" : `${nameOf(nearest)}, ${decimals(data.runnerUpSimilarity[image])}`],
    ];
    const others = isVisitor || nearest < 0 ? [] : [nearest];
    for (const [other] of neighbours(identity)) if (!others.includes(other)) others.push(other);
    if (isVisitor && number >= 0) others.unshift(number);
    const shown = [...new Set(others)].filter((other) => other !== identity.number).slice(0, 4);
    dialog.querySelector("aside").replaceChildren(
      picture,
      element("h3", { className: "asked" }, ticked.size ? `${count(ticked.size, "ticked image")}` : "This image"),
      questions(identity),
      element("dl", {}, ...lines.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)])),
      element("p", {}, element("a", { href: original(image), target: "_blank", rel: "noopener" }, "Open the image")),
      element("h3", {}, shown.length ? "Compare with" : ""),
      ...shown.map((other) => element("div", { className: "beside" },
        button("", "", () => open(other, image), { className: "neighbour" }),
        button("⇆", "Side by side", () => openPair(identity.number, other), { ariaLabel: `Side by side with ${nameOf(other)}` }))));
    for (const [index, one] of [...dialog.querySelectorAll(".neighbour")].entries()) {
      one.append(three(alternating(people.identity(shown[index]))), element("span", {}, nameOf(shown[index]), element("br"),
        element("small", {}, count(people.identity(shown[index]).images.length, "image"))));
    }
    picture.scrollIntoView({ block: "nearest" }); // a narrow window has it above the images
  }

  function tickFocused() {
    const box = document.activeElement?.closest(".member")?.querySelector("input");
    box?.click();
  }

  dialog.addEventListener("cancel", close); // before the next key
  dialog.addEventListener("close", close);
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  return { draw, step, tickFocused };
};
