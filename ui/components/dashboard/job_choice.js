// Filters, searches and sorts the jobs as the address says, and keeps the address up to date.
import { computed, reactive, ref, shallowRef } from "vue";
import { compareNames, folded } from "words";

const SEARCH_MS = 250; // pause in typing before the server is requested to search
const DENSITY = "density";

// `choices` is what can be chosen, `initial` what the address says. The cards are searched here, at once. `search` requests
// from the server the jobs with a matching video; `receiveMatches` takes its answer. `changed` is called when the shown jobs
// change, with false if the server's answer is still missing.
export function jobChoice({ choices, initial, connection, search, changed }) {
  const choice = reactive({ ...initial });
  const idsWithVideo = shallowRef(new Set()); // jobs with a matching video
  const answeredQuery = ref(""); // the search that `idsWithVideo` answers
  const query = computed(() => choice.q.trim());
  const filter = computed(() => choices.filters.find(({ name }) => name === choice.show));
  const isTable = computed(() => choice.view === "table");
  const isSearching = computed(() => query.value !== answeredQuery.value && !connection.away);
  const isNarrowed = computed(() => choice.show !== choices.usual.show || query.value !== "");
  let timer = null;

  function choose(changes) {
    Object.assign(choice, changes);
    if ("view" in changes) storeDensity(choice.view);
    if ("q" in changes) requestMatches();
    updateAddress();
    changed(!isSearching.value);
  }

  function searchSoon(q) {
    choice.q = q;
    changed(false);
    clearTimeout(timer);
    timer = setTimeout(() => choose({ q }), SEARCH_MS);
  }

  function requestMatches() {
    clearTimeout(timer);
    if (query.value) search(query.value);
    else receiveMatches("", []);
  }

  function receiveMatches(q, ids) {
    if (q !== query.value) return;
    const isNew = q !== answeredQuery.value;
    idsWithVideo.value = new Set(ids);
    answeredQuery.value = q;
    changed(isNew);
  }

  function updateAddress() {
    const parameters = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(choice)) {
      if (value === choices.usual[name]) parameters.delete(name);
      else parameters.set(name, value);
    }
    history.replaceState(history.state, "", parameters.size ? `?${parameters}` : location.pathname);
  }

  // Applies the stored density, unless the address names one.
  function restoreDensity() {
    const stored = storedDensity();
    if (new URLSearchParams(location.search).has("view") || !choices.views.includes(stored) || stored === choice.view) return;
    choice.view = stored;
    updateAddress();
  }

  const isMatch = (job, q) =>
    job.id.startsWith(q) || folded(job.name).includes(q) || (job.error && folded(job.error).includes(q)) || idsWithVideo.value.has(job.id);

  const comparison = computed(() => {
    const facts = choices.orders[choice.sort].by.map((fact) => [fact.replace("-", ""), fact.startsWith("-") ? -1 : 1]);
    return (a, b) => {
      for (const [fact, sign] of facts) {
        const difference = typeof a[fact] === "string" ? compareTexts(fact, a[fact], b[fact]) : a[fact] - b[fact];
        if (difference) return sign * difference;
      }
      return 0;
    };
  });

  // Returns the IDs of the jobs to show, in order.
  function select(jobs) {
    const q = folded(query.value);
    const selected = jobs.filter((job) => filter.value.statuses.includes(job.status) && (!q || isMatch(job, q)));
    return selected.sort(comparison.value).map(({ id }) => id);
  }

  const emptyTitle = computed(() => (query.value ? `Nothing matches “${query.value}”` : `No ${filter.value.jobs} here`));
  const emptyText = computed(() => {
    if (!query.value) return `${choices.stay}.`;
    const scope = choice.show === choices.usual.show ? "" : ` among ${filter.value.jobs}`;
    const videos = connection.away ? " Video IDs can be searched after reconnecting." : "";
    return `${choices.found_by}${scope}.${videos}`;
  });

  return {
    ...{ choice, query, isTable, isSearching, isNarrowed, emptyTitle, emptyText },
    ...{ choose, searchSoon, requestMatches, receiveMatches, select, restoreDensity },
    close: () => clearTimeout(timer),
  };
}

const compareTexts = (fact, a, b) => (fact === "name" ? compareNames(a, b) : a < b ? -1 : Number(a > b));

function storeDensity(view) {
  try {
    localStorage.setItem(DENSITY, view);
  } catch {
    // the browser blocks storage: the address still has the density
  }
}

function storedDensity() {
  try {
    return localStorage.getItem(DENSITY);
  } catch {
    return null;
  }
}
