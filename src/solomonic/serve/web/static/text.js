// The text tab: generation as it streams, and the memory map of what was read and written.

import { ApiError, call, events } from "./api.js";
import { $, banner, el, perFrame } from "./dom.js";
import { MemoryMap } from "./memory-map.js";
import { openSettings, whenAccountChanges } from "./settings.js";
import { memoryHits } from "./speech.js";

const EXAMPLES = ["remind me to", "set an alarm for", "what is the weather like in"];
const READ_EVERY = 2000; // ms between what a screen reader is told

class TextTab {
  constructor() {
    this.turns = []; // {role, content}: role "prompt", "user" or "assistant"
    this.map = new MemoryMap($("map"));
    this.running = null;
    this.draw = perFrame(() => this.paint());
    $("generate").addEventListener("click", () => this.generate());
    $("stop").addEventListener("click", () => this.running?.abort());
    $("text-clear").addEventListener("click", () => this.clear());
    $("map-now").addEventListener("click", () => this.remember(true));
    $("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (this.chat && !event.shiftKey && !event.isComposing))) {
        event.preventDefault();
        this.generate();
      }
    });
    for (const radio of document.querySelectorAll('input[name="mode"]')) radio.addEventListener("change", () => this.mode());
    for (const id of ["temperature", "top-p"]) {
      const show = () => { document.querySelector(`output[for="${id}"]`).textContent = Number($(id).value).toFixed(2); };
      $(id).addEventListener("input", show);
    }
    $("examples").append(...EXAMPLES.map((text) => el("button", { type: "button", class: "button small", text: `${text} …`, onclick: () => { $("prompt").value = text; this.generate(); } })));
    whenAccountChanges(() => this.models());
    this.models();
    this.mode();
  }

  get chat() {
    return document.querySelector('input[name="mode"]:checked').value === "chat";
  }

  mode() {
    if (this.running) this.running.abort();
    this.clear();
    $("prompt").placeholder = this.chat ? "Ask something" : EXAMPLES[0];
    $("generate").textContent = this.chat ? "Send" : "Generate";
    $("examples").hidden = this.chat;
  }

  clear() {
    this.turns = [];
    $("rate").textContent = "";
    this.hits([]);
    this.draw();
  }

  async models() {
    const box = $("model");
    try {
      const { data } = await call("/v1/models");
      const texts = data.filter((model) => !model.kind || model.kind !== "speech");
      box.replaceChildren(...texts.map((model) => el("option", { value: model.id, text: model.id })));
      if (!texts.length) box.append(el("option", { value: "", text: "none on this server" }));
      if ($("text-banner").dataset.of === "models") this.complain("");
    } catch (error) {
      box.replaceChildren(el("option", { value: "", text: "unknown" }));
      this.complain(error, "models");
    }
  }

  complain(error, of = "") {
    $("text-banner").dataset.of = of;
    const key = error?.status === 401 ? { action: openSettings, label: "Enter the key" } : {};
    banner($("text-banner"), error ? error.message : "", key);
  }

  body() {
    const body = { max_tokens: Number($("max-tokens").value) || 128, temperature: Number($("temperature").value), top_p: Number($("top-p").value), stream: true };
    if ($("model").value) body.model = $("model").value;
    if ($("seed").value !== "") body.seed = Number($("seed").value);
    const stop = $("stop-at").value.replaceAll("\\n", "\n");
    if (stop) body.stop = [stop];
    return body;
  }

  async generate() {
    const prompt = $("prompt").value;
    if (this.running || (!prompt.trim() && !(this.turns.length && !this.chat))) {
      $("prompt").focus();
      return;
    }
    this.complain("");
    const body = this.body();
    if (this.chat) {
      this.turns.push({ role: "user", content: prompt.trim() });
      body.messages = this.turns.map(({ role, content }) => ({ role, content }));
    } else {
      if (prompt) this.turns.push({ role: "prompt", content: prompt });
      body.prompt = this.turns.map((turn) => turn.content).join("");
    }
    $("prompt").value = "";
    const answer = { role: "assistant", content: "", open: true };
    this.turns.push(answer);
    await this.run(this.chat ? "/v1/chat/completions" : "/v1/completions", body, answer, prompt);
    if (answer.content && document.visibilityState === "visible") this.remember(false);
  }

  async run(path, body, answer, prompt) {
    this.running = new AbortController();
    this.buttons();
    const begun = performance.now();
    let first = 0;
    let count = 0;
    let reason = "";
    try {
      for await (const message of events(path, body, this.running.signal)) {
        const choice = message.choices?.[0];
        const piece = choice?.text ?? choice?.delta?.content ?? "";
        if (piece) {
          first ||= performance.now();
          count += 1;
          answer.content += piece;
          this.draw();
        }
        reason = choice?.finish_reason ?? reason;
        this.rate(count, first || begun, "");
      }
      this.rate(count, first || begun, reason);
    } catch (error) {
      if (error.name !== "AbortError") this.complain(error instanceof ApiError ? error : new ApiError(`The stream broke: ${error.message}.`));
      else this.rate(count, first || begun, "stopped");
      if (!answer.content) { // nothing came: the prompt goes back into its box
        this.turns = this.turns.slice(0, prompt ? -2 : -1);
        $("prompt").value = prompt;
      }
    }
    answer.open = false;
    this.running = null;
    this.buttons();
    $("output-live").textContent = answer.content;
    this.draw();
  }

  rate(count, since, reason) {
    const seconds = (performance.now() - since) / 1000;
    const speed = count > 1 && seconds > 0.05 ? ` · ${Math.round(count / seconds)} a second` : "";
    const why = { length: "as long as allowed", stop: "came to an end", stopped: "stopped" }[reason] ?? reason;
    $("rate").textContent = `${count} ${count === 1 ? "piece" : "pieces"}${speed}${why ? ` · ${why}` : ""}`;
  }

  buttons() {
    const busy = Boolean(this.running);
    $("generate").disabled = busy;
    $("stop").disabled = !busy;
  }

  paint() {
    const box = $("output");
    const low = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
    $("output-empty").hidden = this.turns.length > 0;
    $("text-clear").disabled = !this.turns.length;
    $("output-text").className = this.chat ? "chat" : "prose";
    $("output-text").replaceChildren(...this.turns.map((turn) => el(this.chat ? "div" : "span", { class: `turn ${turn.role}` },
      this.chat ? el("span", { class: "hidden", text: turn.role === "user" ? "You: " : "Model: " }) : null,
      turn.content, turn.open ? el("span", { class: "caret", "aria-hidden": "true" }) : null)));
    if (low) box.scrollTop = box.scrollHeight;
    const now = performance.now();
    if (this.running && now - (this.read ?? 0) > READ_EVERY) {
      this.read = now;
      $("output-live").textContent = this.turns.at(-1).content.slice(-160);
    }
  }

  hits(list) {
    $("text-hits").hidden = !list.length;
    $("text-hits").replaceChildren(...memoryHits(list));
  }

  /** The memory map of all text so far; `asked`: faults are worth a word. */
  async remember(asked) {
    const text = this.turns.map((turn) => turn.content).join(this.chat ? "\n" : "") || $("prompt").value;
    if (!text.trim()) {
      if (asked) this.map.empty("Write or generate a text first; then its map can be drawn.");
      return;
    }
    this.map.busy();
    try {
      const found = await call("/v1/memory_map", { method: "POST", body: { text } });
      this.map.show(found);
      this.hits(found.memory_hits ?? []);
    } catch (error) {
      this.map.empty(error.message);
    }
    $("map").removeAttribute("aria-busy");
  }
}

export const setUpText = () => new TextTab();
