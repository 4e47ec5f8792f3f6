// Notifications of the browser. Several tabs get the same ones from the server: one of them shows each, and none while a tab
// is visible. Web Locks tell the tabs of each other, also when one crashes; browsers have them where they have notifications.
import { count } from "browser";
import { markRead } from "notices";

const [VISIBLE, TELLING] = ["dashboard-visible", "dashboard-telling"];
const [TOLD, BURST, SWITCH] = ["told-notifications", "notification-burst", "browser-notifications"];
const MAX_TOLD = 200;
const LATE_MS = 10 * 60000; // what a connection kept back for longer is no news
const MAX_BODY = 300;

export const [INSECURE, UNSUPPORTED, UNASKED, BLOCKED, OFF, ON] = ["insecure", "unsupported", "default", "denied", "off", "on"];

// Returns one of the states above.
export function browserState() {
  if (!isSecureContext) return INSECURE;
  if (typeof Notification !== "function" || !navigator.locks) return UNSUPPORTED;
  if (Notification.permission !== "granted") return Notification.permission;
  return read(SWITCH, "on") === "off" ? OFF : ON;
}

// Asks for the permission, unless it was asked for before. Only to be called in a click.
export async function askPermission() {
  if (browserState() === UNASKED) await Notification.requestPermission();
  dispatchEvent(new Event("browserstate"));
  return browserState();
}

export function switchBrowser(isOn) {
  write(SWITCH, isOn ? "on" : "off");
  dispatchEvent(new Event("browserstate"));
}

// Shows a notification; a click brings its tab to the front and opens its link. Returns false if the browser cannot.
export function show({ id, title, text, link, ids }) {
  try {
    const shown = new Notification(title, { body: text.slice(0, MAX_BODY), tag: id });
    shown.onclick = () => {
      shown.close();
      window.focus();
      markRead(ids ?? [id]);
      if (link) location.href = link;
    };
    return true;
  } catch {
    return false; // phones: a page may have the permission there and not the right to show one
  }
}

// Tells what is new among these notifications, unless another tab has, or is visible. `group` says how many may come one by
// one within how many seconds (`most`, `seconds`), how several are called (`words`), and whose they are (`user`): what the
// browser remembers of one user is not for the next one.
export function tell(items, group) {
  if (browserState() === INSECURE || !navigator.locks) return;
  navigator.locks.request(TELLING, async () => {
    const fresh = takeFresh(items, `${TOLD} ${group.user}`);
    if (!fresh.length || browserState() !== ON || (await isAnyTabVisible())) return;
    const burst = continueBurst(fresh, group.seconds, `${BURST} ${group.user}`);
    if (burst.length <= group.most) fresh.forEach(show);
    else show(asOne(burst, group.words));
  });
}

// Returns those that no tab has taken yet, and notes them. Those that were there before the first call count as taken.
function takeFresh(items, key) {
  const told = read(key, null);
  const known = new Set(told);
  const fresh = items.filter(({ id }) => !known.has(id));
  if (fresh.length || !told) write(key, [...fresh.map(({ id }) => id), ...known].slice(0, MAX_TOLD));
  if (!told) return [];
  return fresh.filter(({ at, isRead, isQuiet }) => !isRead && !isQuiet && Date.now() - at < LATE_MS).reverse();
}

function continueBurst(fresh, seconds, key) {
  const now = Date.now();
  const { items, at } = read(key, { items: [], at: 0 });
  const burst = [...(now - at < 1000 * seconds ? items : []), ...fresh.map(({ id, event, title }) => ({ id, event, title }))];
  write(key, { items: burst, at: now });
  return burst;
}

// One notification in the place of many, in the same words as the server's. Its tag lets the next one replace it.
function asOne(burst, words) {
  const counts = new Map();
  for (const { event } of burst) counts.set(event, (counts.get(event) ?? 0) + 1);
  const kinds = [...counts].sort(([, a], [, b]) => b - a).map(([event, number]) => `${count(number)} ${words[event]}`);
  const title = `${count(burst.length)} notifications: ${kinds.join(", ")}`;
  return { id: "several", title, text: burst.map((one) => one.title).join("\n"), link: "/", ids: burst.map(({ id }) => id) };
}

async function isAnyTabVisible() {
  const { held } = await navigator.locks.query();
  return !document.hidden || held.some(({ name }) => name === VISIBLE);
}

// Holds a lock while this tab is visible.
let release = null;

function holdVisible() {
  release?.();
  release = null;
  if (document.hidden || !navigator.locks) return;
  const held = new Promise((resolve) => (release = resolve));
  navigator.locks.request(VISIBLE, { mode: "shared" }, () => held);
}

export function watchVisibility() {
  holdVisible();
  document.addEventListener("visibilitychange", holdVisible);
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // the browser blocks storage
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // the browser blocks storage: nothing is told, since the next tab could not know of it
  }
}
