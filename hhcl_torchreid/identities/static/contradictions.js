// Whether the answers can all be right, as the program that reads corrections.csv takes them.
"use strict";

window.identityContradiction = (data, rows) => {
  const nobody = new Map(); // image -> the place of the last row that says so
  const joined = new Map(); // image -> the place of the last row that takes that back
  const pairs = new Map(); // two images -> the last row about them, and its place
  rows.forEach((row, place) => {
    const [answer, image, other] = row;
    if (answer === "nobody") nobody.set(image, place);
    else if (answer === "name") joined.set(image, place);
    else {
      pairs.set(`${Math.min(image, other)} ${Math.max(image, other)}`, [row, place]);
      if (answer === "same") for (const one of [image, other]) joined.set(one, place);
    }
  });
  const isNobody = (image) => (nobody.get(image) ?? -1) > (joined.get(image) ?? -1);
  const [beside, apart] = [new Map(), []];
  for (const [[answer, image, other], place] of [...pairs.values()].sort((a, b) => a[1] - b[1])) {
    if (answer === "different") {
      if (!isNobody(image) && !isNobody(other)) apart.push([image, other]);
    } else if (place > Math.max(nobody.get(image) ?? -1, nobody.get(other) ?? -1)) {
      for (const [one, two] of [[image, other], [other, image]]) {
        if (!beside.has(one)) beside.set(one, []);
        beside.get(one).push(two);
      }
    }
  }

  // Every image that is one person with this one, and the one before it on the shortest way there.
  function reached(image) {
    const from = new Map([[image, null]]);
    for (const here of from.keys()) for (const there of beside.get(here) ?? []) if (!from.has(there)) from.set(there, here);
    return from;
  }

  const person = new Map();
  for (const image of beside.keys()) if (!person.has(image)) for (const one of reached(image).keys()) person.set(one, image);
  const found = apart.find(([image, other]) => person.has(image) && person.get(image) === person.get(other));
  if (!found) return "";
  const [image, other] = found;
  const from = reached(image);
  const between = [];
  for (let here = from.get(other); here !== image; here = from.get(here)) between.unshift(here);
  const [one, two, ...way] = [image, other, ...between].map((place) => data.path[place]);
  return `Not all answers can be right, as ${one} and ${two} are said to be two people, and one person by way of ${way.join(", ")}: `
    + "undo, or answer about them again.";
};
