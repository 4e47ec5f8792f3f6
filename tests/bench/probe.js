// Sits in the measured tab: frames, long tasks, and how old a change is when the frame that draws it is done.
// A change carries the moment it was made as `~<µs since 1970>~` in its message. All figures in milliseconds.
(() => {
  const MADE = /~(\d+)~/;
  const STEP = 40; // px a frame while scrolling: a fast wheel
  const probe = (window.probe = { first: null, begin, report });
  let frames = [];
  let delays = [];
  let tasks = [];
  let drawn = []; // made, drawn into the page, and not yet painted
  let isFirst = false;
  let step = 0;

  // A message posted in a frame arrives when that frame is painted.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => {
    const now = performance.timeOrigin + performance.now();
    if (isFirst && probe.first === null) probe.first = performance.now();
    for (const made of drawn) delays.push(now - made);
    drawn = [];
  };

  function frame(at) {
    frames.push(at);
    if (step) scroll();
    painted.port2.postMessage(null);
    requestAnimationFrame(frame);
  }

  function scroll() {
    const { scrollTop, scrollHeight, clientHeight } = document.scrollingElement;
    if (scrollTop + step < 0 || scrollTop + step > scrollHeight - clientHeight) step = -step;
    scrollTo({ top: scrollTop + step, behavior: "instant" });
  }

  function take(records) {
    isFirst ||= document.querySelector("[data-job-id]") !== null;
    if (step) return; // what only came into sight is no news
    for (const record of records) {
      const texts = record.type === "characterData" ? [record.target] : record.addedNodes;
      for (const text of texts) {
        const made = text.nodeType === Node.TEXT_NODE && MADE.exec(text.data);
        if (made) drawn.push(Number(made[1]) / 1000);
      }
    }
  }

  function begin(scrolls) {
    [frames, delays, tasks, drawn] = [[], [], [], []];
    step = scrolls ? STEP : 0;
  }

  function report() {
    const gaps = frames.slice(1).map((at, i) => at - frames[i]);
    const took = frames.length ? frames.at(-1) - frames[0] : 0;
    return { fps: took ? (gaps.length * 1000) / took : 0, gaps, tasks, delays };
  }

  new MutationObserver(take).observe(document, { subtree: true, childList: true, characterData: true });
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration))).observe({
    type: "longtask",
  });
  requestAnimationFrame(frame);
})();
