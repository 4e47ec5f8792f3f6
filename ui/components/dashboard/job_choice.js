// Which jobs are shown and in which order: what somebody chose, as it stands in the address.
import { computed, reactive, ref, shallowRef } from "vue";

const SEARCH_MS = 250; // a pause in typing, after which the server is asked too
const DENSITY = "density";
const NAMES = new Intl.Collator("en", { numeric: true });

// `choices` is what can be chosen, `begins` what the address says. The cards are looked through here and at once; `search`
// asks the server for the jobs with such a video, which come by `take`. `changed` is called when other jobs are to be
// shown, and gets whether that is all, or the server's answer is still to come.
export function jobChoice({ choices, begins, contact, search, changed }) {
  const choice = reactive({ ...begins });
  const having = shallowRef(new Set()); // jobs with such a video
  const answered = ref(""); // what was searched for when they were found
  const words = computed(() => choice.q.trim());
  const filter = computed(() => choices.filters.find(({ name }) => name === choice.show));
  const isTable = computed(() => choice.view === "table");
  const isSearching = computed(() => words.value !== answered.value && !contact.away);
  const narrows = computed(() => choice.show !== choices.usual.show || words.value !== "");
  let pause = null;

  function choose(changes) {
    Object.assign(choice, changes);
    if ("view" in changes) keepDensity(choice.view);
    if ("q" in changes) ask();
    keepAddress();
    changed(!isSearching.value);
  }

  function look(q) {
    choice.q = q;
    changed(false);
    clearTimeout(pause);
    pause = setTimeout(() => choose({ q }), SEARCH_MS);
  }

  function ask() {
    clearTimeout(pause);
    if (words.value) search(words.value);
    else take("", []);
  }

  function take(q, ids) {
    if (q !== words.value) return;
    const isNew = q !== answered.value;
    having.value = new Set(ids);
    answered.value = q;
    changed(isNew);
  }

  function keepAddress() {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(choice)) {
      if (value === choices.usual[name]) query.delete(name);
      else query.set(name, value);
    }
    history.replaceState(history.state, "", query.size ? `?${query}` : location.pathname);
  }

  // The address comes first; who chose a density once gets it wherever the address says none.
  function recallDensity() {
    const kept = keptDensity();
    if (new URLSearchParams(location.search).has("view") || !choices.views.includes(kept) || kept === choice.view) return;
    choice.view = kept;
    keepAddress();
  }

  const isFound = (job, q) =>
    job.id.startsWith(q) || job.name.toLowerCase().includes(q) || job.error?.toLowerCase().includes(q) || having.value.has(job.id);

  const inOrder = computed(() => {
    const facts = choices.orders[choice.sort].by.map((fact) => [fact.replace("-", ""), fact.startsWith("-") ? -1 : 1]);
    return (a, b) => {
      for (const [fact, way] of facts) {
        const difference = typeof a[fact] === "string" ? NAMES.compare(a[fact], b[fact]) : a[fact] - b[fact];
        if (difference) return way * difference;
      }
      return 0;
    };
  });

  // The ids of those of `jobs` that are shown.
  function chosen(jobs) {
    const q = words.value.toLowerCase();
    const wanted = jobs.filter((job) => filter.value.statuses.includes(job.status) && (!q || isFound(job, q)));
    return wanted.sort(inOrder.value).map(({ id }) => id);
  }

  const nothing = computed(() => (words.value ? `Nothing matches “${words.value}”` : `No ${filter.value.jobs} here`));
  const why = computed(() => {
    if (!words.value) return `${choices.stay}.`;
    const part = choice.show === choices.usual.show ? "" : ` among ${filter.value.jobs}`;
    const videos = contact.away ? " Video IDs can be searched once the server is back." : "";
    return `${choices.found_by}${part}.${videos}`;
  });

  return { choice, words, isTable, isSearching, narrows, nothing, why, choose, look, ask, take, chosen, recallDensity, close: () => clearTimeout(pause) };
}

function keepDensity(view) {
  try {
    localStorage.setItem(DENSITY, view);
  } catch {
    // this browser keeps nothing: the address still says it
  }
}

function keptDensity() {
  try {
    return localStorage.getItem(DENSITY);
  } catch {
    return null;
  }
}
