// Runs in every page before the page's own scripts. Samples what the page shows and keeps the record across its reloads.
// A run is a row of equal samples.
(() => {
  if (!location.protocol.startsWith("http") || window !== top) return;
  const KEY = "recorded runs";
  const SAMPLE_MS = 50;
  const MAX_GAP_MS = 1000; // a longer pause between samples begins a new run
  const runs = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  let receivedAt = Date.now();
  let previous = null;

  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", () => (receivedAt = Date.now()));
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

  function sample() {
    const now = Date.now();
    const page = shown();
    const text = JSON.stringify(page);
    const last = runs.at(-1);
    if (text === previous && now - last.until < MAX_GAP_MS) {
      Object.assign(last, { until: now, samples: last.samples + 1, silence: Math.max(last.silence, now - receivedAt) });
    } else {
      runs.push({ ...page, since: now, until: now, samples: 1, silence: now - receivedAt });
    }
    previous = text;
  }

  window.recordedRuns = () => (sample(), runs);
  setInterval(sample, SAMPLE_MS);
  addEventListener("pagehide", () => sessionStorage.setItem(KEY, JSON.stringify(runs)));
})();
