// Connection helpers that work without the socket: which server answers, and which controls are blocked meanwhile.

export const SERVER = "server";
export const SESSION_ENDED = "session ended";
export const NOT_CONNECTED = "Not connected: available again after reconnecting";

const MIN_RELOAD_INTERVAL_MS = 30000; // for a page that was reloaded and never connected
const ACTIONS = '.bell-menu button, main button:not([data-offline], .busy), main .btn:not([data-offline]), a[href^="/"]:not([data-offline]), form button:not([data-offline])';
const FIELDS = "main select:not([data-offline]), main input[type=number], main input[data-online]"; // text fields send nothing by themselves

// Returns SERVER, SESSION_ENDED if the server answers but the user is not signed in, or null. Null means that nothing
// answers, or something else does, such as a hotel's sign-in page or a proxy's error page.
export async function identifyServer(timeoutMs) {
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch("/api/auth/me", { cache: "no-store", redirect: "error", signal });
    const body = await response.json();
    if (response.ok && typeof body?.is_admin === "boolean") return SERVER;
    return response.status === 401 && typeof body?.detail === "string" ? SESSION_ENDED : null;
  } catch {
    return null;
  }
}

export const wasReloadedRecently = () => Date.now() - Number(sessionStorage.getItem("reloaded")) < MIN_RELOAD_INTERVAL_MS;

export function reload() {
  sessionStorage.setItem("reloaded", Date.now());
  location.reload();
}

// Disables the controls that need the server and gives the reason in their titles. Called every second, because controls
// that are drawn later need it too.
export function blockControls() {
  for (const control of document.querySelectorAll(`${ACTIONS}, ${FIELDS}`)) {
    if (control.title === NOT_CONNECTED || (control.hasAttribute("aria-disabled") && !("blocked" in control.dataset))) continue;
    control.dataset.blocked = control.title;
    control.title = NOT_CONNECTED;
    control.setAttribute("aria-disabled", "true");
    if (control.type === "number") control.readOnly = true;
  }
}

export function unblockControls() {
  for (const control of document.querySelectorAll("[data-blocked]")) {
    if (control.title === NOT_CONNECTED) control.title = control.dataset.blocked;
    if (!control.title) control.removeAttribute("title");
    delete control.dataset.blocked;
    control.removeAttribute("aria-disabled");
    if (control.type === "number") control.readOnly = false;
  }
}

// Returns true if the event must not happen while there is no connection. Clicks would pile up and all be sent on
// reconnection. A link or a form would replace this page with the browser's error page.
export function isBlocked(event) {
  if (event.type === "submit") return true;
  const control = event.target.closest?.(`[data-blocked], ${ACTIONS}`);
  if (event.type === "click") return Boolean(control);
  return control?.tagName === "SELECT" && event.key !== "Tab";
}
