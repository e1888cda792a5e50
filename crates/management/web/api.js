// Requests to the node that served these pages.

import { session } from "./session.js";

/** A request may take this long. */
const TIMEOUT = 20_000;

/** What the API, or the lack of it, said. `status` is 0 where nothing answered. */
export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }

  /** Nobody answers now; it may be different in a moment. */
  get passing() {
    return this.status === 0 || this.status === 503;
  }
}

/** A path of which every name is one segment, whatever it holds: at`/queues/${vhost}/${name}`. */
export function at(texts, ...names) {
  return texts.reduce((path, text, index) => path + segment(names[index - 1]) + text);
}

function segment(name) {
  const text = String(name);
  // A browser would take these for steps in the path, and ask for something else.
  if (text === "" || text === "." || text === "..") {
    throw new ApiError(400, `a browser cannot ask for what is named "${text}"; use the program warren`);
  }
  try {
    return encodeURIComponent(text);
  } catch {
    throw new ApiError(400, "the name holds half a character");
  }
}

/** The API. Questions are given up when `signal` says so; changes go on once they are sent. */
export function api(signal) {
  const ask = async (method, path, options) => {
    const response = await request(method, `/api${path}`, options);
    const text = await body(response, options.signal);
    return text === "" ? null : JSON.parse(text);
  };
  return {
    get: (path, query) => ask("GET", path, { query, signal }),
    put: (path, content) => ask("PUT", path, { content }),
    post: (path, content) => ask("POST", path, { content }),
    delete: (path, query, headers) => ask("DELETE", path, { query, headers }),
    /** Whether the node serves clients; the reason if it does not. No login is needed. */
    readiness: async () => {
      const response = await request("GET", "/health/ready", { signal });
      return response.ok ? null : (await response.json()).reason ?? "not ready";
    },
  };
}

const limited = (signal) => {
  const limit = AbortSignal.timeout(TIMEOUT);
  return signal ? AbortSignal.any([signal, limit]) : limit;
};

async function request(method, path, { query, content, headers, signal, authorization }) {
  const search = parameters(query);
  const sent = { ...headers };
  const login = authorization ?? session.authorization;
  if (login) sent.Authorization = login;
  if (content !== undefined) sent["Content-Type"] = "application/json";
  try {
    return await fetch(path + search, {
      method,
      headers: sent,
      body: content === undefined ? undefined : JSON.stringify(content),
      signal: limited(signal),
      // The browser's own login, and its prompt, stay out of this.
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    throw unanswered(error, signal);
  }
}

function unanswered(error, signal) {
  if (signal?.aborted) return signal.reason instanceof Error ? signal.reason : error;
  if (error.name === "TimeoutError") return new ApiError(0, `no answer within ${TIMEOUT / 1000} s`);
  return error instanceof TypeError ? new ApiError(0, "the node does not answer") : error;
}

async function body(response, signal) {
  let text;
  try {
    text = await response.text();
  } catch (error) {
    throw unanswered(error, signal);
  }
  if (response.ok) return text;
  const reason = reasonOf(text) ?? `${response.status} ${response.statusText}`;
  // The same status means that the user may not do this, which is no reason to log in again.
  if (response.status === 401 && reason === "Not_Authorized") session.refused();
  throw new ApiError(response.status, reason);
}

function reasonOf(text) {
  try {
    const { reason, error } = JSON.parse(text);
    return typeof reason === "string" ? reason : error;
  } catch {
    return text.slice(0, 300) || null;
  }
}

function parameters(query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

/** Who that is, if the node lets them in. */
export async function whoami(authorization, signal) {
  const response = await request("GET", "/api/whoami", { authorization, signal });
  if (response.status === 401) {
    throw new ApiError(401, reasonOf(await response.text()) ?? "Not_Authorized");
  }
  return JSON.parse(await body(response, signal));
}
