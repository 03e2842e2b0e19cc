// The first visit: nothing was logged yet, and here is how to begin.

import { h, replace } from "./dom.js";
import { key, ROOT } from "./http.js";

/** Show how to send a first prediction; the page looks every two seconds whether it has come. */
export function welcome(element) {
  if (element.querySelector(".welcome")) return;
  const base = ROOT.href.replace(/\/$/, "");
  const secret = key.get() ? ` -H 'X-API-Key: A-KEY-THAT-MAY-WRITE'` : "";
  const shell = [
    `curl ${base}/api/v1/predict-log${secret} \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '{"model_name": "my_model", "duration_ms": 124, "was_successful": true}'`,
  ].join("\n");
  const python = [
    `import predlog`,
    `log = predlog.Client("${base}"${key.get() ? ', api_key="…"' : ""})`,
    `with log.track("my_model", version="1"): ...  # the call of your model`,
  ].join("\n");
  replace(element,
    h("section", { class: "welcome panel" },
      h("h2", {}, "Nothing has been logged yet"),
      h("p", {}, "Send a first prediction from a shell. It appears here within two seconds."),
      snippet("shell", shell),
      h("p", {}, "From a model server in Python, with the client:"),
      snippet("python", python),
      h("p", { class: "waiting", role: "status" }, h("span", { class: "dot", "aria-hidden": "true" }), "Waiting for the first prediction")));
}

function snippet(name, text) {
  const button = h("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text).then(() => (button.textContent = "Copied"), () => getSelection().selectAllChildren(code));
  });
  const code = h("code", { id: `snippet-${name}` }, text);
  return h("div", { class: "snippet" }, h("pre", { tabindex: "0", "aria-label": `How to log from ${name}` }, code), button);
}
