// Two parts of a page that share one connection, as the documentation of react-use-websocket shows it. use-jobs.jsx and
// jobs.js are examples of backend/client/README.md; tests/support/client_pages.py copies them beside this file.
import { createRoot } from "react-dom/client";
import { ReadyState } from "react-use-websocket";
import { pageQuery } from "./page-query.js";
import { useJobs } from "./use-jobs.jsx";

function Board({ index }) {
  const { jobs, readyState } = useJobs(...pageQuery());
  (window.boards ??= [])[index] = jobs; // for the test to read
  return (
    <section data-testid="board" data-state={ReadyState[readyState]}>
      {[...jobs.newest.values()].map((job) => <p key={job.job_id}>{job.name} {job.progress} % {job.message}</p>)}
      <p>{jobs.errors.size} errors</p>
    </section>
  );
}

createRoot(document.getElementById("root")).render([0, 1].map((index) => <Board key={index} index={index} />));
