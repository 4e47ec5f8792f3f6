// Receives the live frames of one page and applies them to its jobs. Frames wait for the next paint. After a gap or a new
// connection the page requests what changed since its position.
import { shallowReactive, toRaw } from "vue";
import { saveOnLeave, takeSaved } from "browser";

const ANSWER_TIMEOUT_MS = 5000; // after it, the request is repeated
const HIDDEN_MS = 1000; // a hidden tab applies frames once a second, so that its title stays true

// `watch` requests from the server what changed after a position (null: everything). `changed` gets each job that is new or
// changed, as it was (undefined: it is new) and what differs (null: it was removed). `drawn` gets the newest frame after all
// frames are applied, and true if the answer to a request was among them.
export function jobFeed({ watch, changed, drawn }) {
  const jobs = new Map(); // id -> shallowReactive facts: a change repaints its own job only
  let seq = null; // position of the newest frame
  let resume = null; // position up to which everything has come
  let requestedAt = null; // null unless an answer is pending
  let pending = [];
  let cancelDraw = null;
  let offset = 0;

  // receiving
  function request() {
    requestedAt = Date.now();
    seq = resume; // the answer follows on it
    watch(resume);
  }

  function receive(frame) {
    const follows = frame.prev === seq;
    if (!frame.snapshot && !follows) {
      if (requestedAt === null) request(); // a frame was lost; later ones are dropped until the answer arrives
      return;
    }
    if (frame.snapshot) pending = [];
    pending.push({ ...frame, isAnswer: requestedAt !== null });
    requestedAt = null;
    [seq, resume] = [frame.seq, frame.resume];
    offset = frame.now - Date.now();
    schedule();
  }

  // Draws what came with the page. The feed replaces it. After a lost connection the feed is awaited: what it changes is counted.
  function drawFirst(frame) {
    if (saved) return;
    offset = frame.now - performance.timeOrigin - (performance.getEntriesByType("navigation")[0]?.responseStart ?? 0);
    apply({ ...frame, removed: [] });
    drawn(frame, false);
  }

  function schedule() {
    if (cancelDraw !== null) return;
    const hidden = document.hidden;
    const id = hidden ? setTimeout(draw, HIDDEN_MS) : requestAnimationFrame(draw);
    cancelDraw = () => (hidden ? clearTimeout(id) : cancelAnimationFrame(id));
  }

  function draw() {
    cancelDraw?.();
    cancelDraw = null;
    const frames = pending;
    pending = [];
    if (!frames.length) return;
    const isAnswered = frames.some((frame) => frame.isAnswer || frame.snapshot);
    const shownBefore = isAnswered && (saved ?? marks());
    for (const frame of frames) apply(frame);
    drawn(frames.at(-1), isAnswered);
    if (isAnswered) announceCaughtUp(differences(shownBefore, marks()));
  }

  function apply(frame) {
    if (frame.snapshot) {
      const present = new Set(frame.jobs.map((job) => job.id));
      for (const id of jobs.keys()) if (!present.has(id)) remove(id);
    }
    for (const facts of frame.jobs) {
      const job = jobs.get(facts.id);
      changed(toRaw(job), facts); // raw: thousands of jobs are compared, and reactive reads are slow
      if (job) Object.assign(job, facts);
      else jobs.set(facts.id, shallowReactive(facts));
    }
    for (const id of frame.removed) remove(id);
  }

  function remove(id) {
    const job = jobs.get(id);
    if (jobs.delete(id)) changed(toRaw(job), null);
  }

  // after a reconnection: how many cards differ from those that were last shown, also from those before a reload
  let saved = takeSaved("jobs");
  let resolveCatchUp = null;

  const marks = () => Object.fromEntries([...jobs].map(([id, job]) => [id, `${job.status} ${job.updated} ${job.progress} ${job.done}`]));
  const differences = (before, after) => Object.keys({ ...before, ...after }).filter((id) => before[id] !== after[id]).length;

  function onCatchUp({ detail }) {
    detail.push(new Promise((resolve) => (resolveCatchUp = resolve)));
  }

  function announceCaughtUp(updates) {
    saved = null;
    resolveCatchUp?.(updates);
    resolveCatchUp = null;
  }

  function onVisibility() {
    if (cancelDraw === null) return;
    cancelDraw();
    cancelDraw = null;
    document.hidden ? schedule() : draw();
  }

  return {
    jobs,
    drawFirst,
    receive, // also a method of the component, which the server calls if it cannot broadcast
    now: () => Date.now() + offset, // by the server's clock
    repeatLostRequest() {
      if (requestedAt !== null && window.socket?.connected && Date.now() - requestedAt > ANSWER_TIMEOUT_MS) request();
    },
    start(isAway) {
      window.socket.on("jobs", receive);
      window.socket.on("connect", request);
      if (window.socket.connected) request();
      addEventListener("catchup", onCatchUp);
      saveOnLeave("jobs", () => (isAway() ? marks() : null));
      document.addEventListener("visibilitychange", onVisibility);
    },
    stop() {
      window.socket.off("jobs", receive);
      window.socket.off("connect", request);
      cancelDraw?.();
      removeEventListener("catchup", onCatchUp);
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
