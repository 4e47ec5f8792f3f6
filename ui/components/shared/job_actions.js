// What can be done with a job: one button, the rest in a menu, and a question before what cannot be taken back.
import { nextTick } from "vue";
import { zoom } from "browser";

const ROOM = 8; // between the menu and its button, and the edge of the window
let made = 0;

export default {
  props: { jobId: String, name: String, offers: Array, busy: String, quick: String, looks: Object, solid: Boolean, wide: Boolean },
  emits: ["act"],
  data: () => ({ number: (made += 1), shown: null, asked: null }),
  computed: {
    first() {
      return this.busy ? null : this.offers[0];
    },
    others() {
      return this.offers.slice(this.busy ? 0 : 1);
    },
    beside() {
      return this.wide ? this.others.find(({ act }) => act === "export") : undefined;
    },
    rest() {
      return this.others.filter((offer) => offer !== this.beside);
    },
    menuId() {
      return `job-menu-${this.number}`;
    },
    question() {
      return this.offers.find((offer) => offer.act === this.asked);
    },
  },
  methods: {
    text(offer) {
      return offer.text ?? this.looks[offer.act].text;
    },
    target({ act }) {
      return { open: `/jobs/${this.jobId}`, export: `/api/jobs/${this.jobId}/export.csv` }[act];
    },
    press({ act, asks }) {
      if (asks) this.ask(act);
      else this.$emit("act", { job: this.jobId, act });
    },
    // What a first click did may have put another action under the second one of a double click, or of a held key.
    once(event) {
      if (event.detail <= 1 && !event.repeat) return;
      event.preventDefault();
      event.stopPropagation();
    },
    choose(offer) {
      this.$refs.menu.hidePopover(); // the keyboard goes back to the menu's button
      if (!this.target(offer)) this.press(offer);
    },
    async ask(act) {
      this.asked = act;
      await nextTick();
      this.$refs.question.showModal();
    },
    answer(isYes) {
      const asked = this.question;
      this.$refs.question.close();
      if (isYes && asked) this.press({ act: asked.act });
    },
    // While it is open, the menu stays as it was: nothing moves under the pointer.
    fill({ newState }) {
      if (newState !== "open") return;
      this.shown = this.rest;
      requestAnimationFrame(() => {
        this.place();
        this.entries()[0]?.focus();
      });
    },
    empty({ newState }) {
      if (newState === "closed") this.shown = null; // not before: an entry that is gone cannot hand its focus back
    },
    place() {
      const { menu, opener } = this.$refs;
      const button = opener.getBoundingClientRect();
      const { width, height } = menu.getBoundingClientRect();
      const left = Math.min(button.left, innerWidth - width - ROOM);
      const below = button.bottom + ROOM / 2;
      const isBelow = below + height + ROOM <= innerHeight;
      const top = isBelow ? below : button.top - height - ROOM / 2;
      menu.style.left = `${Math.max(ROOM, left) / zoom()}px`;
      menu.style.top = `${Math.max(ROOM, top) / zoom()}px`;
    },
    entries() {
      return [...this.$refs.menu.querySelectorAll("[role=menuitem]")];
    },
    move(event) {
      const entries = this.entries();
      const at = entries.indexOf(document.activeElement);
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
      if (event.key === "Tab") this.$refs.menu.hidePopover();
      if (next === undefined) return;
      event.preventDefault();
      entries.at(next % entries.length).focus();
    },
    stay() {
      if (this.shown) this.place(); // at its button
    },
  },
  mounted() {
    addEventListener("scroll", this.stay, { passive: true });
    addEventListener("resize", this.stay);
  },
  beforeUnmount() {
    removeEventListener("scroll", this.stay);
    removeEventListener("resize", this.stay);
  },
  template: `
    <div class="actions" @click.capture="once" @keydown.enter.capture="once">
      <button v-if="busy" type="button" class="act-first busy" aria-disabled="true"><span>{{ busy }}</span></button>
      <a v-else-if="first && target(first)" class="btn act-first" :class="{ primary: solid }" :href="target(first)" :aria-label="text(first) + ': ' + name"><span v-if="looks[first.act].in_button" class="i s" :data-icon="looks[first.act].icon" aria-hidden="true"></span><span>{{ text(first) }}</span></a>
      <button v-else-if="first" type="button" class="act-first" :class="{ primary: solid }" :aria-label="text(first) + ': ' + name" @click="press(first)"><span>{{ text(first) }}</span></button>
      <a v-if="beside" class="btn" :href="target(beside)"><span class="i s" :data-icon="looks[beside.act].icon" aria-hidden="true"></span><span>{{ text(beside) }}</span></a>
      <button v-if="rest.length" ref="opener" type="button" class="ghost opener" :aria-label="'More actions: ' + name" title="More actions" aria-haspopup="menu" :aria-expanded="shown ? 'true' : 'false'" :popovertarget="menuId" @keydown.down.prevent="$refs.menu.showPopover()"><span class="i" data-icon="more_horiz" aria-hidden="true"></span></button>
      <div ref="menu" class="job-menu" :id="menuId" popover role="menu" :aria-label="'Actions: ' + name" @beforetoggle="fill" @toggle="empty" @keydown="move">
        <template v-for="offer in shown ?? []" :key="offer.act">
          <a v-if="target(offer)" role="menuitem" tabindex="-1" :href="target(offer)" @click="choose(offer)"><span class="i" :data-icon="looks[offer.act].icon" aria-hidden="true"></span><span>{{ text(offer) }}</span></a>
          <button v-else type="button" role="menuitem" tabindex="-1" :class="{ grave: looks[offer.act].is_grave }" @click="choose(offer)"><span class="i" :data-icon="looks[offer.act].icon" aria-hidden="true"></span><span>{{ text(offer) }}</span></button>
        </template>
      </div>
      <dialog v-if="asked" ref="question" class="question" :aria-labelledby="menuId + '-title'" :aria-describedby="menuId + '-text'" @close="asked = null">
        <h2 :id="menuId + '-title'">{{ looks[asked].question }}</h2>
        <p class="strong whose">{{ name }}</p>
        <p :id="menuId + '-text'">{{ question ? question.asks : "This can no longer be done: the job has changed meanwhile." }}</p>
        <div class="act">
          <button type="button" data-offline @click="answer(false)">{{ question ? looks[asked].no : "Close" }}</button>
          <button v-if="question" type="button" :class="looks[asked].is_grave ? 'danger' : 'primary'" @click="answer(true)">{{ looks[asked].yes }}</button>
        </div>
      </dialog>
      <span v-if="$slots.default" class="leaving">
        <slot></slot>
        <button v-if="quick" type="button" class="link quick" :aria-label="looks[quick].text + ': ' + name" @click="press({ act: quick })"><span>{{ looks[quick].text }}</span></button>
      </span>
    </div>`,
};
