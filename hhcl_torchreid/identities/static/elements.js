// What the page is made of. File names are data: they reach it as text and properties only.
"use strict";

window.pageElements = (data) => {
  const THUMBNAILS_PER_FOLDER = 1000;

  function element(tag, properties = {}, ...children) {
    const { dataset, ...others } = properties;
    const made = Object.assign(document.createElement(tag), others);
    Object.assign(made.dataset, dataset);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const thumbnail = (image) =>
    `page/thumbnails/${String(Math.floor(image / THUMBNAILS_PER_FOLDER)).padStart(3, "0")}/${image}.jpg`;

  function original(image) {
    return `${data.images}/${data.path[image].split("/").map(escaped).join("/")}`;
  }

  // A byte that is no UTF-8 is a lone surrogate in Python's text, and stands for itself in an address.
  const escaped = (part) => Array.from(part, (letter) => (/^[\udc80-\udcff]$/.test(letter)
    ? `%${(letter.charCodeAt(0) & 0xff).toString(16)}`
    : encodeURIComponent(letter.toWellFormed()))).join("");

  const colour = (camera) => `hsl(${(camera * 137.5 + 205) % 360} 58% 52%)`;
  // A number alone would be taken for one of the counts beside it.
  const cameraName = (camera) => data.cameras[camera].replace(/^\d+$/, "camera $&") || "no camera";
  const decimals = (value) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(2));
  const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  const nameOf = (number) => `Identity ${number}`;

  function tile(image, className = "") {
    const picture = element("img", {
      src: thumbnail(image), loading: "lazy", decoding: "async", alt: data.path[image], draggable: false,
    });
    const made = element("div", { className: `tile ${className}`, title: `${data.path[image]}\n${cameraName(data.camera[image])}` }, picture);
    picture.onerror = () => made.classList.add("unreadable");
    made.style.setProperty("--camera", colour(data.camera[image]));
    return made;
  }

  function gauge(value, isDoubtful = false) {
    const bar = element("i");
    bar.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
    return element("span", { className: isDoubtful ? "gauge doubt" : "gauge" }, bar);
  }

  function cameraDot(camera) {
    const dot = element("span", { className: "dot" });
    dot.style.setProperty("--camera", colour(camera));
    return dot;
  }

  const plain = (text) => text.normalize("NFC").toLowerCase();

  function fileName(image, query) {
    const name = data.path[image];
    const made = element("p", { className: "file" });
    const start = query ? plain(name).indexOf(plain(query)) : -1;
    // Lower case and composition may change lengths; then nothing is marked.
    if (start < 0 || plain(name).length !== name.length) {
      made.append(name);
    } else {
      const end = start + plain(query).length;
      made.append(name.slice(0, start), element("mark", {}, name.slice(start, end)), name.slice(end));
    }
    return made;
  }

  function card(label, open, ...children) {
    const made = element("article", { className: "card", tabIndex: 0, role: "button", ariaLabel: label }, ...children);
    made.onclick = open;
    made.onkeydown = (event) => {
      if (event.target === made && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        open();
      }
    };
    return made;
  }

  return {
    element, plain, thumbnail, original, cameraName, decimals, count, nameOf, tile, gauge, cameraDot, fileName, card,
  };
};
