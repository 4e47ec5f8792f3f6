// What only the browser can do or knows: the clipboard, the reader's time zone, the seconds that pass.

export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text })); // plain HTTP
  field.select();
  document.execCommand("copy");
  field.remove();
}

// "4 min": a time that is still passing, in one unit.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (s >= length) return `${Math.floor(s / length)} ${unit}`;
  }
  return `${s} s`;
}

// "14:02", with the day when that is not today, with the year when it is not this one.
export function clockTime(moment) {
  const now = new Date();
  const form = { hour: "2-digit", minute: "2-digit" };
  if (moment.toDateString() !== now.toDateString()) Object.assign(form, { day: "numeric", month: "short" });
  if (moment.getFullYear() !== now.getFullYear()) form.year = "numeric";
  return moment.toLocaleString("en-GB", form);
}

export const exactTime = (moment) => moment.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" });

export function zoneName(moment) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(moment);
  return parts.find((part) => part.type === "timeZoneName").value;
}
