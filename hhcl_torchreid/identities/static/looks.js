// Light or dark, and the brightness of the pictures; the browser keeps both.
"use strict";

window.pageLooks = () => {
  const PLACE = "hhcl_torchreid looks";
  const root = document.documentElement;
  const slider = document.getElementById("brightness");
  let looks = {};

  function show() {
    root.style.colorScheme = looks.theme ?? "";
    // No filter at all where none is wanted: it costs memory.
    root.classList.toggle("brightened", Number(slider.value) !== 1);
    root.style.setProperty("--brightness", slider.value);
    document.getElementById("brightnessValue").textContent = `${Math.round(slider.value * 100)}%`;
  }

  function keep() {
    show();
    try {
      localStorage.setItem(PLACE, JSON.stringify(looks));
    } catch {
      // It holds until the page is closed.
    }
  }

  function switchTheme() {
    const isDark = looks.theme ? looks.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    looks.theme = isDark ? "light" : "dark";
    keep();
  }

  function brighten(steps) {
    slider.value = String(Number(slider.value) + 0.25 * steps);
    slider.oninput();
  }

  slider.oninput = () => {
    looks.brightness = slider.value;
    keep();
  };
  try {
    looks = JSON.parse(localStorage.getItem(PLACE)) ?? {};
  } catch {
    looks = {};
  }
  slider.value = looks.brightness ?? "1";
  show();
  return { switchTheme, brighten };
};
