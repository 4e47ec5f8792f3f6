// Keeps texts changing on a page that the browser translates. A translator puts a <font> in the place of each text, but
// the frameworks hold on to the text node that they made: what they write into it would not be seen any more, and what
// they insert before it would fail. So the node returns to its place, empty, beside its translation. As soon as it is
// written to, the translation goes, and the translator translates the new text.
(() => {
  const translations = new WeakMap(); // text node → the element that shows its translation
  const texts = new WeakMap(); // the element → its text node and what that said
  const MAX_RETURNS = 3; // of one node that is replaced while it is empty: that is no translator
  const returns = new WeakMap();

  const isText = (node) => node?.nodeType === Node.TEXT_NODE;
  const isFree = (node) => node?.nodeName === "FONT" && !texts.has(node);

  function forget(text) {
    const font = translations.get(text);
    translations.delete(text);
    if (font) texts.delete(font);
    return font;
  }

  function putBack(text, font, said) {
    const times = (returns.get(text) ?? 0) + (said ? 0 : 1);
    if (times > MAX_RETURNS) return;
    returns.set(text, times);
    if (font.contains(text)) text.replaceWith(document.createTextNode(said));
    font.parentNode.insertBefore(text, font);
    text.data = "";
    translations.set(text, font);
    texts.set(font, { text, said });
  }

  function onTextRemoved(text, { target, addedNodes, previousSibling, nextSibling }, returned) {
    if (text.parentNode === target) return; // it is back
    const shown = forget(text);
    if (shown) {
      if (shown.parentNode === target) shown.remove(); // the page removed it
      return;
    }
    const font = [...addedNodes, previousSibling, nextSibling].find((node) => isFree(node) && node.parentNode === target);
    if (font) putBack(text, font, text.data);
    if (font) returned.add(text);
  }

  function onTranslationRemoved(font) {
    const known = texts.get(font);
    if (!known || font.isConnected) return;
    forget(known.text);
    if (known.text.isConnected && known.text.data === "") known.text.data = known.said; // back to the original
  }

  function onWritten(text, returned) {
    const known = texts.get(translations.get(text));
    if (!known || (text.data === "" && !returned.has(text))) return;
    if (text.data === "") text.data = known.said; // it was written to before it was back
    forget(text).remove();
  }

  const observer = new MutationObserver((records) => {
    const returned = new Set();
    for (const record of records) {
      if (record.type === "characterData") {
        onWritten(record.target, returned);
        continue;
      }
      for (const node of record.removedNodes) {
        if (isText(node)) onTextRemoved(node, record, returned);
        else if (node.nodeName === "FONT") onTranslationRemoved(node);
      }
    }
    observer.takeRecords(); // what was changed here
  });
  observer.observe(document.documentElement, { childList: true, characterData: true, subtree: true });
})();
