// corrections.csv: rows of text, and what they say of images.
"use strict";

window.correctionsTable = (data) => {
  const COLUMNS = ["answer", "path", "other", "name"];
  const PAIRS = ["same", "different"];
  const ANSWERS = [...PAIRS, "nobody", "name"];

  // As identities.csv has it: no cell is a formula, and a byte that is no UTF-8 is an escape.
  const plain = (text) => text.replace(/\p{Surrogate}/gu, (letter) => `\\u${letter.charCodeAt(0).toString(16)}`);
  const FORMULA = /^[=+\-@\t\r]/;
  const pathCell = (path) => (FORMULA.test(path) ? `./${plain(path)}` : plain(path));
  const nameCell = (name) => (FORMULA.test(name) ? `'${name}` : name);
  const nameOf = (cell) => (cell.startsWith("'") && FORMULA.test(cell.slice(1)) ? cell.slice(1) : cell);
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

  function write(rows) {
    const cells = rows.map(([answer, image, other, name]) =>
      [answer, pathCell(data.path[image]), PAIRS.includes(answer) ? pathCell(data.path[other]) : "", nameCell(name ?? "")]);
    return [COLUMNS, ...cells].map((row) => `${row.map(quoted).join(",")}\n`).join("");
  }

  function cellsOf(text) {
    const rows = [[]];
    const between = /^"?answer"?;/.test(text) ? ";" : ","; // as some spreadsheets write it
    const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${between}\\r\\n]*))(${between}|\\r\\n|\\r|\\n|$)`, "gy");
    while (cell.lastIndex < text.length) {
      const found = cell.exec(text);
      if (!found) throw new Error(`line ${rows.length} has a quotation mark out of place`);
      rows.at(-1).push(found[1]?.replaceAll('""', '"') ?? found[2]);
      if (found[3] !== between) rows.push([]);
      else if (cell.lastIndex === text.length) rows.at(-1).push("");
    }
    return rows.filter((row) => row.length > 1 || row[0]);
  }

  // Throws where the text is no such table or names images that are not here; a table half read would mislead.
  function read(text) {
    const [head, ...lines] = cellsOf(text.replace(/^\ufeff/, ""));
    if (!head || head.join() !== COLUMNS.join()) throw new Error(`the first line is not “${COLUMNS.join()}”`);
    const images = new Map(data.path.map((path, image) => [pathCell(path), image]));
    return lines.map((cells, index) => {
      const [answer, path, other, name] = cells;
      const where = `row ${index + 1}`;
      if (cells.length !== COLUMNS.length) throw new Error(`${where} has ${cells.length} cells in place of ${COLUMNS.length}`);
      if (!ANSWERS.includes(answer)) throw new Error(`${where} answers “${answer}”, which is none of ${ANSWERS.join(", ")}`);
      const find = (given) => {
        const image = images.get(given) ?? images.get(given.replace(/^\.\//, ""));
        if (image === undefined) throw new Error(`${where} names “${given}”, which is not among these images`);
        return image;
      };
      const isPair = PAIRS.includes(answer);
      const row = [answer, find(path), isPair ? find(other) : -1, answer === "name" ? nameOf(name) : ""];
      if (isPair && row[1] === row[2]) throw new Error(`${where} compares “${path}” with itself`);
      return row;
    });
  }

  return { read, write };
};
