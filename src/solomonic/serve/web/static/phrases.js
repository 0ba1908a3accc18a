// Personal words: what the recogniser listens for, kept by the server for the user.

import { call } from "./api.js";
import { $, el, toast } from "./dom.js";
import { whenAccountChanges } from "./settings.js";

const MOST = 5000;
const SHOWN = 200;

export class Phrases {
  constructor() {
    this.words = [];
    this.kept = false; // whether the server has them
    $("words-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add($("words-input").value);
    });
    whenAccountChanges(() => this.load());
    this.load();
  }

  async load() {
    $("words-state").textContent = "loading …";
    try {
      const { phrases } = await call("/v1/users/me/phrases");
      this.words = phrases;
      this.kept = true;
      $("words-state").textContent = "";
    } catch (error) {
      this.words = [];
      this.kept = false;
      $("words-state").textContent = error.status === 404 ? "only for this visit" : error.message;
    }
    this.draw();
  }

  /** One or several, divided by commas or line ends. */
  add(text) {
    const fresh = text.split(/[,\n]/).map((word) => word.trim()).filter((word) => word && !this.words.includes(word));
    if (this.words.length + fresh.length > MOST) {
      toast(`At most ${MOST} words; remove some first.`);
      return;
    }
    $("words-input").value = "";
    if (fresh.length) this.set([...this.words, ...new Set(fresh)]);
  }

  remove(word, place) {
    this.set(this.words.filter((other) => other !== word));
    // The focus goes to the neighbour, or back to the field.
    const buttons = $("words-list").querySelectorAll("button");
    (buttons[Math.min(place, buttons.length - 1)] ?? $("words-input")).focus();
  }

  async set(words) {
    const before = this.words;
    this.words = words;
    this.draw();
    $("words-state").textContent = "saving …";
    try {
      const answer = await call("/v1/users/me/phrases", { method: "PUT", body: { phrases: words } });
      if (this.words !== words) return; // changed again meanwhile
      this.kept = true;
      if (answer?.phrases) this.words = answer.phrases;
      $("words-state").textContent = "saved";
    } catch (error) {
      if (error.status >= 400 && error.status < 500 && error.status !== 404 && error.status !== 401) this.words = before;
      else this.kept = false;
      $("words-state").textContent = error.status === 404 ? "only for this visit" : `not saved: ${error.message}`;
    }
    this.draw();
  }

  draw() {
    const chips = this.words.slice(0, SHOWN).map((word, place) => el("li", { class: "chip" },
      word.split("\t")[0], el("button", { type: "button", "aria-label": `Remove ${word.split("\t")[0]}`, text: "×", onclick: () => this.remove(word, place) })));
    if (this.words.length > SHOWN) chips.push(el("li", { class: "more", text: `and ${this.words.length - SHOWN} more` }));
    $("words-list").replaceChildren(...chips);
  }
}
