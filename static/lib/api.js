// Calls to the API. Failures are thrown as Problem, which holds the answer's problem+json.

export const API = "/api/v1";

export class Problem extends Error {
  constructor({ title, detail, status, errors, ...more }) {
    super(detail || title || "The server did not answer as expected.");
    this.title = title ?? "Something went wrong";
    this.status = status ?? 0;
    this.errors = errors ?? [];
    this.more = more; // what else the answer says, for example what stands in the way
  }
}

export async function api(path, { method = "GET", body, signal } = {}) {
  let response;
  try {
    response = await fetch(API + path, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "No answer",
      detail: "The server does not answer. Is Chesboard still running?",
    });
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

async function problemOf(response) {
  try {
    return new Problem(await response.json());
  } catch {
    return new Problem({ title: response.statusText, status: response.status });
  }
}

/** The value of a JSON block that the page carries. */
export function pageData(id = "page-data") {
  return JSON.parse(document.getElementById(id).textContent);
}
