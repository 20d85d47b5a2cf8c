// What the buttons and keys do: an answer becomes rows, the rows are kept, and the page says what happened.
"use strict";

window.identityActs = ({ data, people, elements, corrections, choice, say, answeredCard, openPair }) => {
  const { groupOf, nameOf } = people;
  const { grouped, count } = elements;
  const PAIRS = { same: "one person", different: "two people" };
  const answers = window.identityAnswers(people);
  const these = (images) => {
    const number = new Set(images.flatMap(people.unit)).size;
    return number === 1 ? "The image" : count(number, "image");
  };
  const isOrAre = (images) => (new Set(images.flatMap(people.unit)).size === 1 ? "is" : "are");

  // What somebody has said of two images, and these rows say otherwise.
  function takenBack(rows) {
    const before = rows.flatMap(([answer, one, other]) => {
      const link = PAIRS[answer] && people.link(one, other);
      return link && link[0] !== answer ? [link] : [];
    });
    if (!before.length) return "";
    const [[answer, one, other]] = before;
    const more = before.length > 1 ? `, and ${count(before.length - 1, "other answer")}` : "";
    return ` That takes back that ${data.path[one]} and ${data.path[other]} are ${PAIRS[answer]}${more}.`;
  }

  function give(makeRows, text, byKey) {
    corrections.follow();
    const words = text();
    const rows = makeRows();
    const before = takenBack(rows);
    say(corrections.answer(rows) ? words + before : "That is so already.");
    answeredCard(byKey === true);
  }

  // These images are of that identity, whether they were before or not.
  function is(images, number, byKey) {
    const here = images.filter((image) => groupOf(image) === number);
    const there = images.filter((image) => groupOf(image) !== number);
    give(() => [...answers.move(there, number), ...answers.confirm(here)],
      () => `${these(images)} ${isOrAre(images)} ${nameOf(number)}.`, byKey);
  }

  const likely = (images) => [...images.slice(0, 3).map(people.nearest),
    ...images.slice(0, 1).filter((image) => groupOf(image) >= 0).flatMap((image) =>
      people.neighbours(people.identity(groupOf(image))).map(([number]) => number))];

  // With a follower, it answers for the images that it hands over.
  function elsewhere(images, byKey, through = (how) => how(images)) {
    const own = groupOf(images[0]);
    choice.ask(`Which identity ${images.length === 1 ? "is this image" : "are these images"} of?`, likely(images), own,
      (number) => through((all) => is(all, number, byKey)));
  }

  const neighboursOf = (number) => people.neighbours(people.identity(number)).map(([other]) => other);

  function merge(one, other, byKey) {
    give(() => answers.merge(one, other), () => `${nameOf(one)} and ${nameOf(other)} are one person.`, byKey);
  }

  return {
    is,
    elsewhere,
    merge,
    can: {
      confirm: (image, number) => number >= 0 && (groupOf(image) !== number || answers.isBesideOthers([image])),
      split: (images) => (groupOf(images[0]) < 0 ? people.nearest(images[0]) >= 0 : answers.isBesideOthers(images)),
      undo: corrections.canUndo,
    },
    split: (images, byKey) => give(() => answers.split(images),
      () => `${these(images)} ${isOrAre(images)} another person.`, byKey),
    nobody: (images, byKey) => give(() => answers.nobody(images), () => `${these(images)} ${isOrAre(images)} nobody.`, byKey),
    apart: (one, other, byKey) => give(() => answers.apart(one, other), () => `${nameOf(one)} and ${nameOf(other)} are two people.`, byKey),
    name: (number, text) => {
      const name = text.replace(/\p{Cc}/gu, " ").trim();
      if (name !== people.nameGiven(number)) {
        give(() => answers.name(number, name),
          () => `${people.numberOf(number)} ${name ? `is called ${name}` : "has no name"}.`);
      }
    },
    mergeWith: (number) => choice.ask(`Who is the same person as ${nameOf(number)}?`, neighboursOf(number), number,
      (other) => merge(other, number)),
    compareWith: (number) => choice.ask(`Compare ${nameOf(number)} with …`, neighboursOf(number), number,
      (other) => openPair(number, other)),
    undo: () => {
      if (!corrections.canUndo()) return;
      corrections.undo();
      say("Taken back.");
    },
    redo: () => {
      if (!corrections.canRedo()) return;
      corrections.redo();
      say("Answered again.");
    },
    save: () => {
      if (!corrections.count()) return;
      corrections.save();
      say(`corrections.csv has ${count(corrections.count(), "row")}.`);
    },
    open: async (file) => {
      try {
        const { rows, added } = await corrections.open(file);
        say(`${file.name}: ${count(rows, "row")}, ${added === rows ? "all" : grouped(added)} of them new.`);
      } catch (error) {
        say(`${file.name} is not opened: ${error.message}.`, true);
      }
    },
  };
};
