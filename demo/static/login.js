// Where a script keeps the token it logs in as well; the other kinds are a plain form.
import { isKeptByScript, writeToken } from "./keep.js";

const form = document.querySelector("[data-testid=login-form]");
const notice = document.querySelector("[data-testid=notice]");

async function logIn() {
  const response = await fetch(location.pathname, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: form.username.value, password: form.password.value }),
  });
  const data = await response.json();
  if (!response.ok) {
    notice.textContent = data.message;
    return;
  }
  await writeToken(form.dataset.variant, data.token);
  location.assign(`/${form.dataset.variant}/chat`);
}

if (isKeptByScript(form.dataset.variant)) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    logIn().catch(() => { notice.textContent = "The site cannot be reached."; });
  });
}
