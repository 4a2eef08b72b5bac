// The token variant logs in by script and keeps the token; the cookie variant is a plain form.
const form = document.querySelector("[data-testid=login-form]");
const notice = document.querySelector("[data-testid=notice]");

async function logIn() {
  const response = await fetch("/token/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: form.username.value, password: form.password.value }),
  });
  const data = await response.json();
  if (!response.ok) {
    notice.textContent = data.message;
    return;
  }
  localStorage.setItem("demo_token", data.token);
  location.assign("/token/chat");
}

if (form.dataset.variant === "token") {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    logIn().catch(() => { notice.textContent = "The site cannot be reached."; });
  });
}
