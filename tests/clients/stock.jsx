// Two parts of a page that share one connection, as react-use-websocket's documentation has it.
// use-jobs.jsx and jobs.js are in README.md, "Clients"; tests/support/client_pages.py lays them beside this file.
import { createRoot } from "react-dom/client";
import { ReadyState } from "react-use-websocket";
import { asked } from "./asked.js";
import { useJobs } from "./use-jobs.jsx";

function Board({ place }) {
  const { jobs, readyState } = useJobs(...asked());
  (window.boards ??= [])[place] = jobs; // for the test to read
  return (
    <section data-testid="board" data-state={ReadyState[readyState]}>
      {[...jobs.newest.values()].map((job) => <p key={job.job_id}>{job.name} {job.progress} % {job.message}</p>)}
      <p>{jobs.errors.size} errors</p>
    </section>
  );
}

createRoot(document.getElementById("root")).render([0, 1].map((place) => <Board key={place} place={place} />));
