// Browser facilities that several components share: clipboard, announcements, local time, tab storage.

const FEEDBACK_MS = 1500;

// Mixin for components that copy text. `copied` is the result, which replaces the label of the button for a moment.
export const copying = {
  data: () => ({ copied: "" }),
  methods: {
    async copy(text) {
      this.copied = (await writeClipboard(text)) ? "Copied" : "Not copied";
      clearTimeout(this.feedbackTimer);
      this.feedbackTimer = setTimeout(() => (this.copied = ""), FEEDBACK_MS);
    },
  },
};

async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelection(text); // plain HTTP has no clipboard API, and the browser may refuse it elsewhere
  }
}

function copySelection(text) {
  const [focused, field] = [document.activeElement, document.createElement("textarea")];
  document.body.append(field);
  field.value = text;
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return isCopied;
}

// Queues a text for assistive technology; `live_region.vue` draws it.
export const say = (text) => dispatchEvent(new CustomEvent("say", { detail: text }));

const TYPING_OR_OPEN = "input:not([type=checkbox]), textarea, select, [contenteditable], dialog, [role=dialog], [role=menu], [popover]";

// Returns the pressed key if it may act as a single-key shortcut, otherwise null. Shortcuts are off while a field has the
// focus, a menu or a dialog is open, a modifier is held, or the user has switched them off.
export function singleKey(event) {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return null;
  if (!hasSingleKeys() || event.target.closest?.(TYPING_OR_OPEN) || document.querySelector("dialog[open], :popover-open")) return null;
  return event.key;
}

const SINGLE_KEYS = "single-keys";

export function hasSingleKeys() {
  try {
    return localStorage.getItem(SINGLE_KEYS) !== "off";
  } catch {
    return true; // the browser blocks storage
  }
}

export function setSingleKeys(isOn) {
  try {
    localStorage.setItem(SINGLE_KEYS, isOn ? "on" : "off");
  } catch {
    // the browser blocks storage: the keys stay on, as the switch shows
  }
}

// Returns a duration that is still running, in one unit: "4 min".
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (s >= length) return `${Math.floor(s / length)} ${unit}`;
  }
  return `${s} s`;
}

const formats = new Map();

// Formats are cached, because making one costs a hundred times as much as using it.
function formatOf(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", options));
  return formats.get(key);
}

// Returns "14:02", or "14:02:07" if `exact`. Adds the day unless it is today, and the year unless it is this year.
// `at` is a Date, or an argument of its constructor; so it is below.
export function clockTime(at, { exact = false } = {}) {
  const [moment, now] = [new Date(at), new Date()];
  const options = { hour: "2-digit", minute: "2-digit" };
  if (exact) options.second = "2-digit";
  if (moment.toDateString() !== now.toDateString()) Object.assign(options, { day: "numeric", month: "short" });
  if (moment.getFullYear() !== now.getFullYear()) options.year = "numeric";
  return formatOf(options).format(moment);
}

export const exactTime = (at) => formatOf({ dateStyle: "medium", timeStyle: "long" }).format(new Date(at));

// Returns "3 Nov", with the year unless it is this year.
export function clockDay(at) {
  const [moment, now] = [new Date(at), new Date()];
  const year = moment.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return formatOf({ day: "numeric", month: "short", year }).format(moment);
}

// Returns since when something is, roughly: "08:04" today, "3 Nov" within a month, "June", "June 2025".
export function sinceWhen(at) {
  const [moment, now] = [new Date(at), new Date()];
  if (moment.toDateString() === now.toDateString()) return clockTime(at);
  if (now - moment < 28 * 86400000) return clockDay(at);
  return formatOf({ month: "long", year: moment.getFullYear() === now.getFullYear() ? undefined : "numeric" }).format(moment);
}

export function zoneName(moment) {
  const parts = formatOf({ timeZoneName: "short" }).formatToParts(moment);
  return parts.find((part) => part.type === "timeZoneName").value;
}

const numberFormat = new Intl.NumberFormat("en-US");

// Returns "2,908".
export const count = (number) => numberFormat.format(number);

// Returns the factor by which the theme enlarges the page. A length measured on the screen is divided by it for a style.
export const zoom = () => Number(getComputedStyle(document.documentElement).getPropertyValue("--zoom")) || 1;

// Stores the result of `getValue` in the tab when the page is left, for `takeSaved` at the same address. `takeSaved` returns
// it after a reload or a step back, and after a sign-in if the page had lost the server. Otherwise it returns null.
export function saveOnLeave(name, getValue) {
  addEventListener("pagehide", () => {
    const saved = { isAway: document.body.classList.contains("away"), value: getValue() };
    sessionStorage.setItem(`${name} ${location.href}`, JSON.stringify(saved));
  });
}

export function takeSaved(name) {
  const key = `${name} ${location.href}`;
  const saved = JSON.parse(sessionStorage.getItem(key));
  sessionStorage.removeItem(key);
  const isReturn = ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
  return saved && (isReturn || saved.isAway) ? saved.value : null;
}

const MAX_SCROLL_WAIT_MS = 30000; // also on a slow machine

// Restores the scroll position after a reload. The browser would scroll before the content is there; this waits for the
// content, unless the user scrolls first. A page that is left before that leaves the position to the next one.
export function restoreScroll() {
  const key = `scroll ${location.href}`;
  const found = sessionStorage.getItem(key);
  let pending = takeSaved("scroll") || null;
  saveOnLeave("scroll", () => scrollY);
  if (pending === null) return;
  addEventListener("pagehide", () => pending !== null && sessionStorage.setItem(key, found));
  const observer = new ResizeObserver(() => {
    if (pending === null || document.documentElement.scrollHeight - innerHeight < pending) return;
    scrollTo(0, pending);
    stop();
  });
  const stop = () => {
    pending = null;
    observer.disconnect();
  };
  for (const type of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(type, stop, { once: true, passive: true });
  setTimeout(stop, MAX_SCROLL_WAIT_MS);
  observer.observe(document.body);
}
