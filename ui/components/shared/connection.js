// What a page can find out and do about its connection without the socket: who answers, and what has to wait.

export const SERVER = "server";
export const ENDED = "session ended";
export const REASON = "Not connected: comes back with the connection";

const AGAIN_MS = 30000; // a page that was just reloaded and never connected is not reloaded again so soon
const ACTIONS = 'main button:not([data-offline], .busy), main .btn:not([data-offline]), a[href^="/"]:not([data-offline]), form button:not([data-offline])';
const FIELDS = "main select:not([data-offline]), main input[type=number]"; // what is typed elsewhere does nothing yet

// The server, the server for somebody who is not signed in (any more), or null: nobody, or somebody in its place such as
// a hotel's sign-in page or a proxy with an error page.
export async function whoAnswers(patienceMs) {
  try {
    const signal = AbortSignal.timeout(patienceMs);
    const answer = await fetch("/api/auth/me", { cache: "no-store", redirect: "error", signal });
    const said = await answer.json();
    if (answer.ok && typeof said?.is_admin === "boolean") return SERVER;
    return answer.status === 401 && typeof said?.detail === "string" ? ENDED : null;
  } catch {
    return null;
  }
}

export const wasReloadedLately = () => Date.now() - Number(sessionStorage.getItem("reloaded")) < AGAIN_MS;

export function reload() {
  sessionStorage.setItem("reloaded", Date.now());
  location.reload();
}

// Actions that need the server, marked with the reason; again and again, since some are drawn anew meanwhile.
export function hold() {
  for (const control of document.querySelectorAll(`${ACTIONS}, ${FIELDS}`)) {
    if (control.title === REASON || (control.hasAttribute("aria-disabled") && !("held" in control.dataset))) continue;
    control.dataset.held = control.title;
    control.title = REASON;
    control.setAttribute("aria-disabled", "true");
    if (control.type === "number") control.readOnly = true;
  }
}

export function release() {
  for (const control of document.querySelectorAll("[data-held]")) {
    if (control.title === REASON) control.title = control.dataset.held;
    if (!control.title) control.removeAttribute("title");
    delete control.dataset.held;
    control.removeAttribute("aria-disabled");
    if (control.type === "number") control.readOnly = false;
  }
}

// Whether the event is one that may not happen now: clicks would pile up and all happen at the reconnection, and a link
// or a form would leave this page for the browser's own error page.
export function isHeld(event) {
  if (event.type === "submit") return true;
  const control = event.target.closest?.(`[data-held], ${ACTIONS}`);
  if (event.type === "click") return Boolean(control);
  return control?.tagName === "SELECT" && event.key !== "Tab";
}
