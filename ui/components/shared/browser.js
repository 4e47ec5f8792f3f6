// What only the browser can do or knows: the clipboard, the reader's time zone, the seconds that pass.

const SAID_MS = 1500;

// For a component that copies: `copied` is what became of it, to be said for a moment in place of what the button says.
export const copying = {
  data: () => ({ copied: "" }),
  methods: {
    async copy(text) {
      this.copied = (await intoClipboard(text)) ? "Copied" : "Not copied";
      clearTimeout(this.saying);
      this.saying = setTimeout(() => (this.copied = ""), SAID_MS);
    },
  },
};

async function intoClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return intoClipboardByHand(text); // plain HTTP has no such clipboard, and elsewhere it may refuse
  }
}

function intoClipboardByHand(text) {
  const [focused, field] = [document.activeElement, document.createElement("textarea")];
  document.body.append(field);
  field.value = text;
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return isCopied;
}

// Tells assistive technology, after what it is being told; `live_region.vue` draws it.
export const say = (text) => dispatchEvent(new CustomEvent("say", { detail: text }));

const NOT_HERE = "input, textarea, select, [contenteditable], dialog, [role=dialog], [role=menu], [popover]";

// What was pressed, when it is a key that may act by itself: nobody types, has a menu or a dialog open, holds a modifier
// or has switched these keys off. Otherwise null.
export function singleKey(event) {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return null;
  if (!hasSingleKeys() || event.target.closest?.(NOT_HERE) || document.querySelector("dialog[open], :popover-open")) return null;
  return event.key;
}

const SWITCH = "single-keys";

export function hasSingleKeys() {
  try {
    return localStorage.getItem(SWITCH) !== "off";
  } catch {
    return true; // this browser keeps nothing
  }
}

export function switchSingleKeys(isOn) {
  try {
    localStorage.setItem(SWITCH, isOn ? "on" : "off");
  } catch {
    // nothing to be kept: they stay on, as the switch shows
  }
}

// "4 min": a time that is still passing, in one unit.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (s >= length) return `${Math.floor(s / length)} ${unit}`;
  }
  return `${s} s`;
}

const formats = new Map();

// To make a format costs a hundred times what it costs to use it.
function formatOf(form) {
  const key = JSON.stringify(form);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", form));
  return formats.get(key);
}

// "14:02", or "14:02:07" if `exact`, with the day when that is not today, with the year when it is not this one.
// `at` is a Date here and below, or what one is made of.
export function clockTime(at, { exact = false } = {}) {
  const [moment, now] = [new Date(at), new Date()];
  const form = { hour: "2-digit", minute: "2-digit" };
  if (exact) form.second = "2-digit";
  if (moment.toDateString() !== now.toDateString()) Object.assign(form, { day: "numeric", month: "short" });
  if (moment.getFullYear() !== now.getFullYear()) form.year = "numeric";
  return formatOf(form).format(moment);
}

export const exactTime = (at) => formatOf({ dateStyle: "medium", timeStyle: "long" }).format(new Date(at));

export function zoneName(moment) {
  const parts = formatOf({ timeZoneName: "short" }).formatToParts(moment);
  return parts.find((part) => part.type === "timeZoneName").value;
}

const counted = new Intl.NumberFormat("en-US");

// "2,908"
export const count = (number) => counted.format(number);

// By how much the theme enlarges the page: what is measured on the screen, divided by it, is what styles say.
export const zoom = () => Number(getComputedStyle(document.documentElement).getPropertyValue("--zoom")) || 1;

// What `give` returns when the page is left comes out of `carriedOver` at the same address in the same tab, when that was
// a reload or a way back, or when the page had lost the server and somebody signed in again.
export function carryOver(name, give) {
  addEventListener("pagehide", () => {
    const kept = { isLost: document.body.classList.contains("away"), value: give() };
    sessionStorage.setItem(`${name} ${location.href}`, JSON.stringify(kept));
  });
}

export function carriedOver(name) {
  const key = `${name} ${location.href}`;
  const kept = JSON.parse(sessionStorage.getItem(key));
  sessionStorage.removeItem(key);
  const isSame = ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
  return kept && (isSame || kept.isLost) ? kept.value : null;
}

const WAITED_MS = 10000;

// After a reload the browser scrolls before the content is there; this waits for it, unless somebody scrolls first.
export function keepScroll() {
  const wanted = carriedOver("scroll");
  carryOver("scroll", () => scrollY);
  if (!wanted) return;
  const sized = new ResizeObserver(() => {
    if (document.documentElement.scrollHeight - innerHeight < wanted) return;
    stop();
    scrollTo(0, wanted);
  });
  const stop = () => sized.disconnect();
  for (const hand of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(hand, stop, { once: true, passive: true });
  setTimeout(stop, WAITED_MS);
  sized.observe(document.body);
}
