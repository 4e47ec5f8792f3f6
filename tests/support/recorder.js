// Runs in every page before the page's own scripts: writes down what the page shows, from look to look, over its reloads.
(() => {
  if (!location.protocol.startsWith("http") || window !== top) return;
  const KEY = "recorded runs";
  const LOOK_MS = 50;
  const GAP_MS = 1000; // after a pause without looks a new run begins
  const runs = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  let heard = Date.now();
  let before = null;

  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", () => (heard = Date.now()));
    }
  };

  function card(element) {
    const texts = [...element.querySelectorAll("*")].map((part) => part.textContent.trim().match(/^([\d,]+) \/ ([\d,]+)$/));
    const count = texts.find(Boolean);
    const percent = element.querySelector("[role=progressbar]").getAttribute("aria-valuenow");
    return [element.dataset.jobId, element.dataset.status, Number(percent), count[1], count[2]];
  }

  function shown() {
    const popup = document.getElementById("popup");
    return {
      address: location.pathname + location.search + location.hash,
      state: document.querySelector("[data-testid=connection-banner]")?.dataset.state ?? "",
      popup: popup?.checkVisibility({ opacityProperty: true, visibilityProperty: true }) ?? false,
      hidden: document.hidden,
      cards: [...document.querySelectorAll("[data-testid=job-card]")].map(card),
    };
  }

  function look() {
    const now = Date.now();
    const what = shown();
    const same = JSON.stringify(what);
    const last = runs.at(-1);
    if (same === before && now - last.until < GAP_MS) {
      Object.assign(last, { until: now, looks: last.looks + 1, silence: Math.max(last.silence, now - heard) });
    } else {
      runs.push({ ...what, since: now, until: now, looks: 1, silence: now - heard });
    }
    before = same;
  }

  window.recordedRuns = () => (look(), runs);
  setInterval(look, LOOK_MS);
  addEventListener("pagehide", () => sessionStorage.setItem(KEY, JSON.stringify(runs)));
})();
