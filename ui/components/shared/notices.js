// What the server says to the user of this page: notifications, wishes to be told, what happened while they were away. The
// bell receives it; cards, job pages and the dashboard's line read it. What they ask of the server goes through the bell.
import { shallowReactive } from "vue";

export const notices = shallowReactive({ isKnown: false, unread: 0, items: [], wishes: new Set(), away: null });

// Takes the newest state, as `ui/bells.py` makes it.
export function take({ unread, items, wishes, away }) {
  Object.assign(notices, { isKnown: true, unread, items, away });
  if (wishes.length !== notices.wishes.size || wishes.some((id) => !notices.wishes.has(id))) notices.wishes = new Set(wishes);
}

const asks = (name) => (detail) => dispatchEvent(new CustomEvent(name, { detail }));

export const ASKS = ["wish", "read", "back"];

// Asks to be told when a job ends, or not: {job, on}.
export const askToBeTold = asks("wish");

// Says that these notifications are read; null: all.
export const markRead = asks("read");

// Says that the line about the time away is read.
export const endAbsence = asks("back");
