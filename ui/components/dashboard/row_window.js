// Selects the rows of a long list that are drawn. The theme fixes the heights, so the scroll position determines the rows.
import { computed, nextTick, reactive, watch } from "vue";
import { zoom } from "browser";

const MAX_UNWINDOWED = 60; // up to this many items are all drawn
const OVERSCAN_ROWS = 2;

// `space` is the element that contains the list and, in a table, its heading of class `headings`. `columns` gives the number
// of columns of a list of cards for each minimum width.
export function rowWindow({ order, isTable, columns, space }) {
  const view = reactive({ columns: 1, from: 0, to: 1, height: 248, gap: 16, head: 0, zoom: 1 });
  const isWindowed = computed(() => order.value.length > MAX_UNWINDOWED);
  const step = computed(() => view.height + view.gap);
  const rows = computed(() => Math.ceil(order.value.length / view.columns));
  const first = computed(() => (isWindowed.value ? view.from * view.columns : 0));
  const ids = computed(() => (isWindowed.value ? order.value.slice(first.value, view.to * view.columns) : order.value));
  const gridStyle = computed(() => ({
    gridTemplateColumns: `repeat(${view.columns}, minmax(0, 1fr))`,
    gap: `${view.gap}px`,
    ...(isWindowed.value && { transform: `translateY(${view.from * step.value}px)` }),
  }));
  const spaceStyle = computed(() => (isWindowed.value ? { height: `${rows.value * step.value - view.gap + view.head}px` } : {}));

  function measure() {
    const style = getComputedStyle(document.documentElement);
    const size = (name) => parseFloat(style.getPropertyValue(name));
    [view.height, view.gap] = isTable.value ? [size("--row-height"), 0] : [size("--card-height"), size("--gap")];
    view.columns = 1;
    for (const [width, number] of isTable.value ? [] : columns) {
      if (matchMedia(`(min-width: ${width}px)`).matches) view.columns = number;
    }
    view.zoom = zoom();
    view.head = space.value?.querySelector(".headings")?.offsetHeight ?? 0;
    update();
  }

  function update() {
    if (!space.value) return;
    const above = -space.value.getBoundingClientRect().top / view.zoom - view.head;
    const from = Math.floor(above / step.value) - OVERSCAN_ROWS;
    view.from = Math.max(0, Math.min(from, rows.value - 1));
    view.to = Math.max(view.from + 1, Math.ceil((above + innerHeight / view.zoom) / step.value) + OVERSCAN_ROWS);
  }

  async function scrollToItem(index) {
    const top = space.value.getBoundingClientRect().top + scrollY;
    const row = Math.floor(index / view.columns) * step.value * view.zoom;
    scrollTo({ top: top + row - innerHeight / 2, behavior: "instant" });
    update();
    await nextTick();
  }

  const onScroll = oncePerFrame(update);
  const onResize = oncePerFrame(measure);
  watch([() => order.value.length, isTable], measure, { flush: "post" });

  return {
    ...{ first, ids, gridStyle, spaceStyle, scrollToItem },
    start() {
      measure();
      addEventListener("scroll", onScroll, { passive: true });
      addEventListener("resize", onResize);
    },
    stop() {
      removeEventListener("scroll", onScroll);
      removeEventListener("resize", onResize);
    },
  };
}

// Returns a function that runs `work` at most once a frame.
function oncePerFrame(work) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}
