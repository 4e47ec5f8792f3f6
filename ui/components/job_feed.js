// The live frames of one page, applied to its jobs. Frames wait for the next paint; after a gap or a new connection
// everything is asked for anew.
import { shallowReactive, toRaw } from "vue";
import { carriedOver, carryOver } from "browser";

const ANSWER_MS = 5000; // a request for a snapshot that was lost is repeated
const HIDDEN_MS = 1000; // a hidden tab applies what came once a second: its title stays true

// `watch` asks the server for a snapshot; `changed` gets each job that is new or other than before, with what it was
// (undefined: it was not there) and what is other (null: it has left); `drawn` gets the newest frame when all that came
// is applied, and whether a snapshot was among it.
export function jobFeed({ watch, changed, drawn }) {
  const jobs = new Map(); // id -> shallowReactive facts: a change repaints its own job
  let seq = null;
  let asked = 0;
  let pending = [];
  let drawing = null;
  let offset = 0;

  // receiving
  function ask() {
    seq = null;
    pending = [];
    asked = Date.now();
    watch();
  }

  function receive(frame) {
    if (frame.snapshot) pending = [frame];
    else if (seq === null) return;
    else if (frame.prev !== seq) return ask();
    else pending.push(frame);
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
    const isWhole = frames.some((frame) => frame.snapshot);
    const shownBefore = isWhole && (carried ?? marks());
    for (const frame of frames) apply(frame);
    drawn(frames.at(-1), isWhole);
    if (isWhole) tellCaughtUp(differences(shownBefore, marks()));
  }

  function apply(frame) {
    if (frame.snapshot) {
      const here = new Set(frame.jobs.map((job) => job.id));
      for (const id of jobs.keys()) if (!here.has(id)) leave(id);
    }
    for (const facts of frame.jobs) {
      const job = jobs.get(facts.id);
      changed(toRaw(job), facts); // what thousands are compared by is read past the reactive surface
      if (job) Object.assign(job, facts);
      else jobs.set(facts.id, shallowReactive(facts));
    }
    for (const id of frame.removed) leave(id);
  }

  function leave(id) {
    const job = jobs.get(id);
    if (jobs.delete(id)) changed(toRaw(job), null);
  }

  // after a lost connection: how many cards differ from what was shown last, also when that was before a reload
  let carried = carriedOver("jobs");
  let caughtUp = null;

  const marks = () => Object.fromEntries([...jobs].map(([id, job]) => [id, `${job.status} ${job.updated} ${job.progress} ${job.done}`]));
  const differences = (before, after) => Object.keys({ ...before, ...after }).filter((id) => before[id] !== after[id]).length;

  function onCatchUp({ detail }) {
    detail.push(new Promise((resolve) => (caughtUp = resolve)));
  }

  function tellCaughtUp(updates) {
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
    now: () => Date.now() + offset, // by the server's clock
    remind() {
      if (seq === null && window.socket?.connected && Date.now() - asked > ANSWER_MS) ask();
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
