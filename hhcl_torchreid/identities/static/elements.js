// What the page is made of. File names are data: they reach it as text and properties only.
"use strict";

window.pageElements = (data, people) => {
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
  // As English groups digits; what the browser has for that loads the data of all languages first.
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
  const count = (number, one, many = `${one}s`) => `${grouped(number)} ${number === 1 ? one : many}`;

  // How much there is of an identity; of one with a name also its number.
  const facts = ({ number, images, cameras }) => [people.nameGiven(number) && people.numberOf(number),
    count(images.length, "image"), count(cameras.length, "camera")].filter(Boolean).join(" · ");

  function tile(image, className = "") {
    const picture = element("img", {
      src: thumbnail(image), loading: "lazy", decoding: "async", alt: data.path[image], draggable: false,
    });
    const title = `${data.path[image]}\n${cameraName(data.camera[image])}`;
    const made = element("div", { className: `tile ${className}`, title }, picture);
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

  const three = (images) => element("div", { className: "three" }, ...images.slice(0, 3).map((image) => tile(image)));

  function button(text, title, onclick, properties = {}) {
    return element("button", { type: "button", title, onclick, ...properties }, text);
  }

  // Answers to one question, each with a key: [key, text, title, act or null where there is nothing to do, is it given?]
  function choices(label, all) {
    const made = all.filter(([, , , act]) => act).map(([key, text, title, act, isGiven = false]) => {
      const one = button(text, `${title} (${key})`, (event) => {
        event.stopPropagation();
        act(event.detail === 0); // without a pointer
      }, { dataset: { key }, ariaPressed: String(isGiven), ariaKeyShortcuts: key });
      one.append(element("kbd", { ariaHidden: "true" }, key));
      return one;
    });
    return element("div", { className: "choices", role: "group", ariaLabel: label }, ...made);
  }

  // With buttons inside, a card is a group of them that opens too.
  function card(label, open, hasButtons, ...children) {
    const made = element("div", { className: "card", tabIndex: 0, role: hasButtons ? "group" : "button", ariaLabel: label }, ...children);
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
    element, plain, thumbnail, original, cameraName, decimals, grouped, count, facts, tile, three, gauge, cameraDot, fileName, button, choices, card,
  };
};
