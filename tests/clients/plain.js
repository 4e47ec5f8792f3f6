// A page without a library. follow.js and jobs.js are examples of backend/client/README.md.
import { pageQuery } from "./page-query.js";
import { follow } from "./follow.js";

const [server, token, delays] = pageQuery();
const jobs = follow(server, token, show, delays);
window.boards = [jobs]; // for the test to read

function show() {
  const lines = [...jobs.newest.values()].map((job) => `${job.name} ${job.progress} % ${job.message}`);
  document.querySelector("pre").textContent = [...lines, `${jobs.errors.size} errors`].join("\n");
}
