// The live frames of one page, applied to its jobs. Frames wait for the next paint. After a gap or a new connection the
// page asks for what it missed.
import { shallowReactive, toRaw } from "vue";
import { carriedOver, carryOver } from "browser";

const ANSWER_MS = 5000; // a request that was lost is repeated
const HIDDEN_MS = 1000; // a hidden tab applies frames once a second, so that its title stays true

// `watch` asks the server for what changed after a position (null: for everything). `changed` gets each job that is new or
// differs from before, with what it was (undefined: it was not there) and what differs (null: it has left). `drawn` gets the
// newest frame when all frames are applied, and whether the answer to a request was among them.
export function jobFeed({ watch, changed, drawn }) {
  const jobs = new Map(); // id -> shallowReactive facts: a change repaints its own job
  let seq = null;
  let asked = null; // when, while the answer is awaited
  let pending = [];
  let drawing = null;
  let offset = 0;

  // receiving
  function ask() {
    asked = Date.now();
    watch(seq);
  }

  function receive(frame) {
    const follows = frame.prev === seq;
    if (!frame.snapshot && !follows) {
      if (asked === null) ask(); // a frame was lost; until the answer comes, others do not follow either
      return;
    }
    if (frame.snapshot) pending = [];
    pending.push({ ...frame, isAnswer: asked !== null });
    asked = null;
    seq = frame.seq;
    offset = frame.now - Date.now();
    schedule();
  }

  function schedule() {
    if (drawing !== null) return;
    const hidden = document.hidden;
    const id = hidden ? setTimeout(draw, HIDDEN_MS) : requestAnimationFrame(draw);
    drawing = () => (hidden ? clearTimeout(id) : cancelAnimationFrame(id));
  }

  function draw() {
    drawing?.();
    drawing = null;
    const frames = pending;
    pending = [];
    if (!frames.length) return;
    const isAnswered = frames.some((frame) => frame.isAnswer || frame.snapshot);
    const shownBefore = isAnswered && (carried ?? marks());
    for (const frame of frames) apply(frame);
    drawn(frames.at(-1), isAnswered);
    if (isAnswered) announceCaughtUp(differences(shownBefore, marks()));
  }

  function apply(frame) {
    if (frame.snapshot) {
      const here = new Set(frame.jobs.map((job) => job.id));
      for (const id of jobs.keys()) if (!here.has(id)) leave(id);
    }
    for (const facts of frame.jobs) {
      const job = jobs.get(facts.id);
      changed(toRaw(job), facts); // thousands are compared, so they are read without reactivity
      if (job) Object.assign(job, facts);
      else jobs.set(facts.id, shallowReactive(facts));
    }
    for (const id of frame.removed) leave(id);
  }

  function leave(id) {
    const job = jobs.get(id);
    if (jobs.delete(id)) changed(toRaw(job), null);
  }

  // after a lost connection: how many cards differ from what was shown last, also before a reload
  let carried = carriedOver("jobs");
  let caughtUp = null;

  const marks = () => Object.fromEntries([...jobs].map(([id, job]) => [id, `${job.status} ${job.updated} ${job.progress} ${job.done}`]));
  const differences = (before, after) => Object.keys({ ...before, ...after }).filter((id) => before[id] !== after[id]).length;

  function onCatchUp({ detail }) {
    detail.push(new Promise((resolve) => (caughtUp = resolve)));
  }

  function announceCaughtUp(updates) {
    carried = null;
    caughtUp?.(updates);
    caughtUp = null;
  }

  function onVisibility() {
    if (drawing === null) return;
    drawing();
    drawing = null;
    document.hidden ? schedule() : draw();
  }

  return {
    jobs,
    receive, // also as a method of the component, where the server has no room to broadcast in
    now: () => Date.now() + offset, // by the server's clock
    remind() {
      if (asked !== null && window.socket?.connected && Date.now() - asked > ANSWER_MS) ask();
    },
    start(isAway) {
      window.socket.on("jobs", receive);
      window.socket.on("connect", ask);
      if (window.socket.connected) ask();
      addEventListener("catchup", onCatchUp);
      carryOver("jobs", () => (isAway() ? marks() : null));
      document.addEventListener("visibilitychange", onVisibility);
    },
    stop() {
      window.socket.off("jobs", receive);
      window.socket.off("connect", ask);
      drawing?.();
      removeEventListener("catchup", onCatchUp);
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
