// The API's description, drawn from /openapi.json.

import { ask, make, useToken } from "./ask.js";

const at = (id) => document.getElementById(id);
const EXAMPLES = {
  "/recommend": { history: [], k: 3 },
  "/explain": { history: [], item: "" },
  "/similar": "?item=&k=3",
  "/items": "?query=&k=3",
};
let schemas = {};

const named = (schema) => schemas[schema.$ref?.split("/").pop()] ?? schema;

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}`;
  return schema.type ?? "any";
}

function limits(schema) {
  const said = [schema.description];
  if ("minimum" in schema) said.push(`${schema.minimum} to ${schema.maximum}.`);
  if ("maxLength" in schema) said.push(`At most ${schema.maxLength} characters.`);
  if ("maxItems" in schema) said.push(`At most ${schema.maxItems} of them.`);
  if ("default" in schema) said.push(`Default: ${JSON.stringify(schema.default)}.`);
  return said.filter(Boolean).join(" ");
}

function table(title, fields, required) {
  const head = make("tr", {}, ...[title, "type", ""].map((text) => make("th", { scope: "col" }, text)));
  const rows = Object.entries(fields).map(([name, schema]) =>
    make("tr", {}, make("th", { scope: "row" }, name + (required.includes(name) ? " *" : "")), make("td", {}, kind(schema)), make("td", {}, limits(schema))),
  );
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function endpoint(path, method, operation) {
  const box = make("article", {}, make("h2", {}, make("span", { className: "verb" }, `${method} `), path), make("p", {}, operation.summary));
  const takes = named(operation.requestBody?.content["application/json"].schema ?? {});
  if (takes.properties) box.append(table("field of the JSON body", takes.properties, takes.required ?? []));
  if (operation.parameters) {
    const fields = Object.fromEntries(operation.parameters.map((one) => [one.name, one.schema]));
    box.append(table("parameter", fields, operation.parameters.filter((one) => one.required).map((one) => one.name)));
  }
  const gives = named(operation.responses["200"].content["application/json"]?.schema ?? {});
  if (gives.properties) box.append(table("field of the answer", gives.properties, []));
  box.append(trial(path, method));
  return box;
}

function trial(path, method) {
  const example = EXAMPLES[path] ?? "";
  const text = typeof example === "string" ? path + example : JSON.stringify(example);
  const input = make("textarea", { rows: 2, value: text, spellcheck: false, aria: { label: `Request to ${path}` } });
  const output = make("pre", { hidden: true });
  const send = make("button", { type: "button" }, "Try it");
  send.addEventListener("click", async () => {
    try {
      const found = method === "post" ? await ask(path, JSON.parse(input.value)) : await ask(input.value);
      output.textContent = JSON.stringify(found, null, 1);
    } catch (error) {
      output.textContent = `${error.status ?? ""} ${error.message}`;
    }
    output.hidden = false;
  });
  if (path === "/metrics") return make("p", {}, make("a", { href: "/metrics" }, "/metrics"));
  return make("div", {}, input, send, output);
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("token").value);
});

try {
  const found = await ask("/openapi.json");
  schemas = found.components.schemas;
  const all = Object.entries(found.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => endpoint(path, method, operation)));
  at("endpoints").replaceChildren(...all);
} catch (error) {
  at("problem").textContent = error.message;
  at("problem").hidden = false;
}
