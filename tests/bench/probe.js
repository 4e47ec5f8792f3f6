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
  let hasJobs = false;
  let step = 0;

  // A message that is posted in a frame arrives after the frame is painted.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => {
    const now = performance.timeOrigin + performance.now();
    if (hasJobs && probe.first === null) probe.first = performance.now();
    for (const madeAt of unpainted) delays.push(now - madeAt);
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
        if (found) unpainted.push(Number(found[1]) / 1000);
      }
    }
  }

  function begin(scrolls) {
    [frames, delays, tasks, unpainted] = [[], [], [], []];
    step = scrolls ? SCROLL_PX : 0;
  }

  function report() {
    const gaps = frames.slice(1).map((at, i) => at - frames[i]);
    const duration = frames.length ? frames.at(-1) - frames[0] : 0;
    return { fps: duration ? (gaps.length * 1000) / duration : 0, gaps, tasks, delays };
  }

  new MutationObserver(onMutation).observe(document, { subtree: true, childList: true, characterData: true });
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration))).observe({
    type: "longtask",
  });
  requestAnimationFrame(onFrame);
})();
