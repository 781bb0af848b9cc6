// Requests to the service, with the token if there is one. The token is kept until the tab is closed.

let token = sessionStorage.getItem("token") || "";

export function useToken(text) {
  token = text;
  sessionStorage.setItem("token", text);
}

/** The answer as an object. Throws an Error with `status` and the service's message. */
export async function ask(path, body, signal) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { headers, signal, method: body === undefined ? "GET" : "POST" };
  if (body !== undefined) options.body = JSON.stringify(body);
  const answer = await fetch(path, options);
  const found = await answer.json().catch(() => ({ error: `the service answered with status ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(found.error), { status: answer.status });
  return found;
}

/** An element. Texts become text nodes, so they are shown and never run as code. */
export function make(name, properties = {}, ...children) {
  const { data, aria, ...plain } = properties;
  const element = Object.assign(document.createElement(name), plain);
  for (const [key, value] of Object.entries(aria || {})) element.setAttribute(`aria-${key}`, value);
  element.append(...children);
  return element;
}
