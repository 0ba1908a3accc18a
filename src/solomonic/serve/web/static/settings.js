// Who speaks: the user's name (kept in this browser) and the API key (kept in this tab alone).

import { call } from "./api.js";
import { $, toast } from "./dom.js";

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
  get remember() { return read("localStorage", "solomonic.remember") !== "no"; },
  set remember(value) { write("localStorage", "solomonic.remember", value ? "" : "no"); },
  get theme() { return read("localStorage", "solomonic.theme") || "auto"; },
  set theme(value) { write("localStorage", "solomonic.theme", value === "auto" ? "" : value); },
};

const changed = new Set();

/** Calls `work` whenever user or key have changed. */
export const whenAccountChanges = (work) => changed.add(work);

export function openSettings() {
  $("user").value = settings.user;
  $("key").value = settings.key;
  asked(false);
  $("settings").showModal();
}

/** Deleting asks twice. */
function asked(once) {
  const button = $("forget");
  button.dataset.asked = once ? "yes" : "";
  button.textContent = once ? "Yes, delete it for good" : "Delete everything that is kept";
}

async function forget() {
  if (!$("forget").dataset.asked) {
    asked(true);
    return;
  }
  asked(false);
  try {
    const { deleted } = await call("/v1/users/me", { method: "DELETE" });
    const count = Object.values(deleted ?? {}).reduce((sum, value) => sum + value, 0);
    $("settings").close("cancel");
    toast(count ? "Everything that was kept is deleted." : "Nothing was kept.");
    for (const work of changed) work();
  } catch (error) {
    toast(error.message);
  }
}

export function setUpSettings() {
  const show = () => { $("user-name").textContent = settings.user; };
  show();
  $("open-settings").addEventListener("click", openSettings);
  $("forget").addEventListener("click", forget);
  $("remember").checked = settings.remember;
  $("remember").addEventListener("change", () => { settings.remember = $("remember").checked; });
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
