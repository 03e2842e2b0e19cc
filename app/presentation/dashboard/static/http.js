// The public API, and nothing else, is what these pages read.

export const ROOT = new URL("../../../", import.meta.url);
const KEY = "predlog-key";

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** An answer that is not 2xx or not JSON; `status` is 0 if there was none. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Where an address of the API is: values that are undefined or null are left out, lists repeat their name. */
export function address(path, params = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) url.searchParams.append(name, one);
    }
  }
  return url;
}

/** The body of an answer and the address of the next page. Throws ApiError. */
export async function getPage(url, signal) {
  const secret = key.get();
  let response, body;
  try {
    response = await fetch(url, { signal, headers: { Accept: "application/json", ...(secret && { "X-API-Key": secret }) } });
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!(error instanceof SyntaxError)) throw new ApiError(0, "The service does not answer.");
  }
  if (!response.ok) throw new ApiError(response.status, sentence(body) ?? `The service answered ${response.status}.`);
  if (!body) throw new ApiError(response.status, "This answer is not from Predlog; perhaps a proxy wants you to log in.");
  const next = response.headers.get("Link")?.match(/<(.*?)>;\s*rel="next"/)?.[1];
  return { body, next: next ? new URL(next, response.url) : null };
}

export const get = async (path, params, signal) => (await getPage(address(path, params), signal)).body;

function sentence(body) {
  const fields = Object.entries(body?.errors?.query ?? body?.errors?.path ?? {});
  return fields.length ? fields.map(([name, problems]) => `${name}: ${[problems].flat().join(" ")}`).join(" ") : body?.message;
}
