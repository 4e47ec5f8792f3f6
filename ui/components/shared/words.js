// How texts are searched and sorted: the same rule as in backend/domain/words.py, which says why.
const NUMBER_WIDTH = 12;
const BETWEEN = "\x1f";
const ASCII = /^[\x00-\x7f]*$/;
const MAX_KEYS = 20_000;
const keys = new Map(); // name -> key: thousands of names are sorted again and again

export function folded(text) {
  if (ASCII.test(text)) return text.toLowerCase();
  return text.normalize("NFKC").toLowerCase().toUpperCase().toLowerCase().replaceAll("ς", "σ").normalize("NFKC");
}

export function sortKey(text) {
  const whole = folded(text);
  const base = whole.normalize("NFKD").replace(/\p{M}/gu, "");
  return base.replace(/[0-9]+/g, (number) => number.replace(/^0+/, "").padStart(NUMBER_WIDTH, "0")) + BETWEEN + whole;
}

// Compares names as the server sorts them: by the code points of their keys.
export function compareNames(a, b) {
  return a === b ? 0 : compareCodePoints(knownKey(a), knownKey(b));
}

function knownKey(name) {
  let key = keys.get(name);
  if (key === undefined) {
    if (keys.size >= MAX_KEYS) keys.clear();
    keys.set(name, (key = sortKey(name)));
  }
  return key;
}

function compareCodePoints(a, b) {
  let at = 0;
  while (at < a.length && a.charCodeAt(at) === b.charCodeAt(at)) at += 1;
  if (at > 0 && isLowSurrogate(a, at) && isLowSurrogate(b, at)) at -= 1; // they differ in the second half of a character
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}

const isLowSurrogate = (text, at) => text.charCodeAt(at) >= 0xdc00 && text.charCodeAt(at) <= 0xdfff;
