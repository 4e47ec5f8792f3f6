// Measures the tab that it runs in: frames, long tasks, and how old a change is when its frame has been painted.
// A change carries the time when it was made, as `~<µs since 1970>~` in its message. All figures are in milliseconds.
(() => {
  const MADE_AT = /~(\d+)~/;
  const SCROLL_PX = 40; // per frame while scrolling: a fast wheel
  const probe = (window.probe = { first: null, begin, report });
  let frames = [];
  let delays = [];
  let tasks = [];
  let unpainted = []; // times of changes that are in the page but not painted yet
  let stages = { wire: [], script: [], paint: [] }; // until the page has it, until it is in the document, until it is painted
  let arrivals = new Map(); // time of a change -> time when a message brought it
  let hasJobs = false;
  let step = 0;

  // A message that is posted in a frame arrives after the frame is painted.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => {
    const at = now();
    if (hasJobs && probe.first === null) probe.first = performance.now();
    for (const { madeAt, at: drawnAt } of unpainted) {
      delays.push(at - madeAt);
      stages.paint.push(at - drawnAt);
    }
    unpainted = [];
  };

  function onFrame(at) {
    frames.push(at);
    if (step) scroll();
    painted.port2.postMessage(null);
    requestAnimationFrame(onFrame);
  }

  function scroll() {
    const { scrollTop, scrollHeight, clientHeight } = document.scrollingElement;
    if (scrollTop + step < 0 || scrollTop + step > scrollHeight - clientHeight) step = -step;
    scrollTo({ top: scrollTop + step, behavior: "instant" });
  }

  function onMutation(records) {
    hasJobs ||= document.querySelector("[data-job-id]") !== null;
    if (step) return; // scrolling draws rows that have not changed
    for (const record of records) {
      const texts = record.type === "characterData" ? [record.target] : record.addedNodes;
      for (const text of texts) {
        const found = text.nodeType === Node.TEXT_NODE && MADE_AT.exec(text.data);
        if (found) noteDrawn(found[1]);
      }
    }
  }

  const now = () => performance.timeOrigin + performance.now();

  function noteDrawn(change) {
    const [madeAt, at, arrived] = [Number(change) / 1000, now(), arrivals.get(change)];
    unpainted.push({ madeAt, at });
    if (!arrived) return;
    stages.wire.push(arrived - madeAt);
    stages.script.push(at - arrived);
  }

  function noteArrival({ data }) {
    if (typeof data !== "string" || step) return;
    const at = now();
    for (const [, change] of data.matchAll(/~(\d+)~/g)) arrivals.set(change, at);
  }

  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", noteArrival);
    }
  };

  function begin(scrolls) {
    [frames, delays, tasks, unpainted] = [[], [], [], []];
    stages = { wire: [], script: [], paint: [] };
    arrivals = new Map();
    step = scrolls ? SCROLL_PX : 0;
  }

  function report() {
    const gaps = frames.slice(1).map((at, i) => at - frames[i]);
    const duration = frames.length ? frames.at(-1) - frames[0] : 0;
    return { fps: duration ? (gaps.length * 1000) / duration : 0, gaps, tasks, delays, stages };
  }

  new MutationObserver(onMutation).observe(document, { subtree: true, childList: true, characterData: true });
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration))).observe({
    type: "longtask",
  });
  requestAnimationFrame(onFrame);
})();
