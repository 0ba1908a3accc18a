// Puts the page together: tabs, theme, account, and the two tabs' own parts.

import { $ } from "./dom.js";
import { setUpSettings, setUpTheme } from "./settings.js";
import { setUpSpeech } from "./speech.js";
import { setUpText } from "./text.js";

const TABS = ["speech", "text"];

function select(name, focus = false) {
  for (const other of TABS) {
    const on = other === name;
    const tab = $(`tab-${other}`);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(`panel-${other}`).hidden = !on;
    if (on && focus) tab.focus();
  }
  if (location.hash.slice(1) !== name) history.replaceState(null, "", name === TABS[0] ? location.pathname : `#${name}`);
  document.title = name === "text" ? "Text · solomonic" : "Speech · solomonic";
}

function setUpTabs() {
  for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => select(name));
  document.querySelector('[role="tablist"]').addEventListener("keydown", (event) => {
    const now = TABS.findIndex((name) => $(`tab-${name}`) === document.activeElement);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1 + TABS.length, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined || now < 0) return;
    event.preventDefault();
    select(TABS[to % TABS.length], true);
  });
  const asked = () => (TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : TABS[0]);
  window.addEventListener("hashchange", () => { if (TABS.includes(location.hash.slice(1))) select(asked()); });
  select(asked());
}

setUpTheme();
setUpSettings();
setUpTabs();
setUpSpeech();
setUpText();
document.documentElement.dataset.ready = "";
