// Login form: the token grants access; the name is recorded with acknowledgements and changes.

import { h, setText } from "./dom.js";
import { path, send } from "./api.js";

const NAME_KEY = "edgead.name";

export function open(root, { onLogin }) {
  const name = h("input", { id: "login-name", name: "name", autocomplete: "username", required: true, maxlength: "64" });
  const token = h("input", {
    id: "login-token", name: "token", type: "password", autocomplete: "current-password", required: true,
    "aria-describedby": "login-error" });
  const problem = h("p", { class: "problem", id: "login-error", role: "alert" });
  const button = h("button", { class: "primary" }, "Log in");
  name.value = localStorage.getItem(NAME_KEY) ?? "";
  async function onsubmit(event) {
    event.preventDefault();
    button.disabled = true;
    setText(problem, "");
    try {
      await send("POST", path("session"), { token: token.value.trim(), name: name.value.trim() });
      localStorage.setItem(NAME_KEY, name.value.trim());
      onLogin();
    } catch (error) {
      setText(problem, error.words);
      token.setAttribute("aria-invalid", "true");
      token.select();
      token.focus();
    } finally {
      button.disabled = false;
    }
  }
  root.append(h("form", { class: "card login", onsubmit },
    h("h1", {}, "Log in"),
    h("p", { class: "muted" }, "The token was printed when the stream first started. If it is lost, start the stream with a new one in EDGEAD_WEB_TOKEN."),
    h("label", { for: "login-name" }, "Your name"), name,
    h("p", { class: "hint" }, "Recorded with your acknowledgements and changes."),
    h("label", { for: "login-token" }, "Token"), token, problem, button));
  (name.value ? token : name).focus();
  return { title: "Log in", close() {} };
}
