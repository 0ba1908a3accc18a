// Requests to the server that served this page, and its faults in plain words.

import { settings } from "./settings.js";

/** A refusal or fault; `message` is a sentence for people. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const found = {};
  if (settings.key) found.Authorization = `Bearer ${settings.key}`;
  if (settings.user) found["X-Solomonic-User"] = settings.user;
  return found;
}

/** The server's own sentence where it sent one. */
export async function sentence(response) {
  try {
    const body = await response.json();
    if (body?.error?.message) return capital(body.error.message);
  } catch {
    // No JSON: the status must do.
  }
  if (response.status === 401) return "The server asks for an API key.";
  if (response.status === 404) return "This server does not offer that.";
  if (response.status === 429) return "Too many requests; wait a moment.";
  if (response.status === 503) return "The server is busy or stopping; try again in a moment.";
  return `The server answered ${response.status}.`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** JSON in and out. */
export async function call(path, { method = "GET", body = null, signal } = {}) {
  const response = await send(path, { method, body, signal });
  return response.status === 204 ? null : response.json();
}

async function send(path, { method, body, signal }) {
  const given = headers();
  if (body !== null) given["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, signal, headers: given, body: body === null ? undefined : JSON.stringify(body),
      credentials: "omit", cache: "no-store", redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached; see whether it runs.");
  }
  if (!response.ok) throw new ApiError(await sentence(response), response.status);
  return response;
}

/** The JSON messages of a server-sent event stream, one by one, until `[DONE]`. */
export async function* events(path, body, signal) {
  const response = await send(path, { method: "POST", body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r\n", "\n");
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const data = rest.slice(0, end).split("\n")
        .filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      rest = rest.slice(end + 2);
      if (data === "[DONE]") return;
      if (!data) continue;
      const message = JSON.parse(data);
      if (message.error) throw new ApiError(capital(message.error.message ?? "the server failed."));
      yield message;
    }
  }
}

/** Where the stream is, and the subprotocol that carries the key: a browser cannot set headers on a
 * WebSocket, and an address would stand in logs. */
export function streamAddress() {
  const url = new URL("/v1/stream", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (settings.user) url.searchParams.set("user", settings.user);
  const protocols = ["solomonic"];
  if (settings.key) protocols.push(`key.${settings.key}`);
  return [url.href, protocols];
}
