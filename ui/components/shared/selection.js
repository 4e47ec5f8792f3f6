// The jobs that are ticked on a page, to act on them together.
import { computed, onBeforeUnmount, onMounted, shallowReactive } from "vue";
import { count, say, singleKey } from "browser";

// `order` returns the IDs of the listed jobs as they are sorted, also of those that are not drawn. `facts` returns the
// {name, offers} of a listed job. A job that is not listed any more keeps the facts that it was ticked with.
export function jobSelection({ order, facts }) {
  const picked = shallowReactive(new Map()); // id -> {name, offers}
  let last = null; // where a range begins

  const factsOf = (id) => facts(id) ?? picked.get(id);

  function set(ids, isPicked) {
    for (const id of ids) isPicked ? picked.set(id, factsOf(id) ?? { name: id, offers: [] }) : picked.delete(id);
  }

  // With Shift everything between the last ticked job and this one gets the state of this one.
  function pick(event, id) {
    const isPicked = event.target.checked;
    const ids = order();
    const [from, to] = [ids.indexOf(last), ids.indexOf(id)].sort((a, b) => a - b);
    set(event.shiftKey && from >= 0 ? ids.slice(from, to + 1) : [id], isPicked);
    last = id;
    tell();
  }

  function toggle(id) {
    set([id], !picked.has(id));
    last = id;
    tell();
  }

  function clear() {
    picked.clear();
    tell();
  }

  // `found` are [id, name, names of the offered actions] from the server.
  function pickFound(found) {
    for (const [id, name, offers] of found) picked.set(id, { name, offers: offers.map((act) => ({ act })) });
    tell();
  }

  const tell = () => say(picked.size ? `${count(picked.size)} selected.` : "Nothing is selected.");

  // x ticks the job whose name has the focus
  function onKey(event) {
    const id = document.activeElement?.closest?.("[data-job-id]")?.dataset.jobId;
    if (id === undefined || singleKey(event) !== "x" || !order().includes(id)) return;
    event.preventDefault();
    toggle(id);
  }

  onMounted(() => addEventListener("keydown", onKey));
  onBeforeUnmount(() => removeEventListener("keydown", onKey));

  const chosen = computed(() =>
    [...picked.keys()].map((id) => {
      const { name, offers } = factsOf(id); // only these: a job has many facts that change all the time
      return { id, name, offers };
    }),
  );
  return { picked, pick, clear, pickFound, chosen, drop: (id) => picked.delete(id) };
}
