// Who speaks: the user's name (kept in this browser) and the API key (kept in this tab alone).

import { $ } from "./dom.js";

const memory = new Map(); // in place of storage where the browser refuses it

function read(store, name) {
  try {
    return window[store].getItem(name) ?? "";
  } catch {
    return memory.get(name) ?? "";
  }
}

function write(store, name, value) {
  memory.set(name, value);
  try {
    if (value) window[store].setItem(name, value);
    else window[store].removeItem(name);
  } catch {
    // Kept in `memory` until the page is left.
  }
}

export const settings = {
  get key() { return read("sessionStorage", "solomonic.key"); },
  set key(value) { write("sessionStorage", "solomonic.key", value); },
  get user() { return read("localStorage", "solomonic.user"); },
  set user(value) { write("localStorage", "solomonic.user", value); },
  get theme() { return read("localStorage", "solomonic.theme") || "auto"; },
  set theme(value) { write("localStorage", "solomonic.theme", value === "auto" ? "" : value); },
};

const changed = new Set();

/** Calls `work` whenever user or key have changed. */
export const whenAccountChanges = (work) => changed.add(work);

export function openSettings() {
  $("user").value = settings.user;
  $("key").value = settings.key;
  $("settings").showModal();
}

export function setUpSettings() {
  const show = () => { $("user-name").textContent = settings.user; };
  show();
  $("open-settings").addEventListener("click", openSettings);
  $("settings-form").addEventListener("keydown", (event) => {
    // Enter in a field would press the first button, which is Cancel.
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    $("settings-save").click();
  });
  $("settings").addEventListener("close", () => {
    if ($("settings").returnValue !== "save") return;
    settings.user = $("user").value.trim();
    settings.key = $("key").value.trim();
    $("key").value = "";
    show();
    for (const work of changed) work();
  });
}

const THEMES = ["auto", "light", "dark"];
const NAMES = { auto: "as the system", light: "light", dark: "dark" };

export function setUpTheme() {
  const button = $("theme");
  const show = () => {
    document.documentElement.dataset.theme = settings.theme;
    button.setAttribute("aria-label", `Theme: ${NAMES[settings.theme]}`);
    button.title = `Theme: ${NAMES[settings.theme]}`;
  };
  show();
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(settings.theme) + 1) % THEMES.length];
    settings.theme = next;
    show();
  });
}
