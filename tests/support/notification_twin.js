// Takes the place of the browser's notifications: tells the test (`noted`) what is asked and shown. The permission is that of
// the whole browser, as in a real one; a person allows it at once. `isHidden` of the window hides the tab.
(() => {
  const PERMISSION = "twin-permission";
  window.shown = [];
  window.Notification = class {
    static get permission() {
      return localStorage.getItem(PERMISSION) ?? "default";
    }
    static async requestPermission() {
      localStorage.setItem(PERMISSION, "granted");
      window.noted({ asked: true });
      return "granted";
    }
    constructor(title, { body, tag }) {
      window.shown.push(this);
      window.noted({ title, body, tag });
    }
    close() {}
  };
  Object.defineProperty(document, "hidden", { get: () => window.isHidden ?? false });
  Object.defineProperty(document, "visibilityState", { get: () => (document.hidden ? "hidden" : "visible") });
})();
