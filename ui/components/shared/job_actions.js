// The actions of a job: one button, the others in a menu, and a question before an action that cannot be undone.
import { nextTick } from "vue";
import { zoom } from "browser";

const MARGIN = 8; // px around the menu: to its button and to the edges of the window
let lastNumber = 0;

export default {
  props: { jobId: String, name: String, offers: Array, busy: String, quick: String, looks: Object, solid: Boolean, wide: Boolean },
  emits: ["act"],
  data: () => ({ number: (lastNumber += 1), menuOffers: null, confirming: null }),
  computed: {
    first() {
      return this.busy ? null : this.offers[0];
    },
    others() {
      return this.offers.slice(this.busy ? 0 : 1);
    },
    exportOffer() {
      return this.wide ? this.others.find(({ act }) => act === "export") : undefined;
    },
    rest() {
      return this.others.filter((offer) => offer !== this.exportOffer);
    },
    menuId() {
      return `job-menu-${this.number}`;
    },
    question() {
      return this.offers.find((offer) => offer.act === this.confirming);
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
      if (asks) this.confirm(act);
      else this.$emit("act", { job: this.jobId, act });
    },
    // The first click may have put another action under the second click of a double click, or under a held key.
    ignoreRepeat(event) {
      if (event.detail <= 1 && !event.repeat) return;
      event.preventDefault();
      event.stopPropagation();
    },
    choose(offer) {
      this.$refs.menu.hidePopover(); // moves the focus back to the menu's button
      if (!this.target(offer)) this.press(offer);
    },
    async confirm(act) {
      this.confirming = act;
      await nextTick();
      this.$refs.question.showModal();
    },
    answer(isYes) {
      const offer = this.question;
      this.$refs.question.close();
      if (isYes && offer) this.press({ act: offer.act });
    },
    // The open menu keeps its entries, so that nothing moves under the pointer.
    fill({ newState }) {
      if (newState !== "open") return;
      this.menuOffers = this.rest;
      requestAnimationFrame(() => {
        this.place();
        this.entries()[0]?.focus();
      });
    },
    empty({ newState }) {
      if (newState === "closed") this.menuOffers = null; // only now: a removed entry could not return the focus
    },
    place() {
      const { menu, opener } = this.$refs;
      const button = opener.getBoundingClientRect();
      const { width, height } = menu.getBoundingClientRect();
      const left = Math.min(button.left, innerWidth - width - MARGIN);
      const below = button.bottom + MARGIN / 2;
      const isBelow = below + height + MARGIN <= innerHeight;
      const top = isBelow ? below : button.top - height - MARGIN / 2;
      menu.style.left = `${Math.max(MARGIN, left) / zoom()}px`;
      menu.style.top = `${Math.max(MARGIN, top) / zoom()}px`;
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
    followButton() {
      if (this.menuOffers) this.place();
    },
  },
  mounted() {
    addEventListener("scroll", this.followButton, { passive: true });
    addEventListener("resize", this.followButton);
  },
  beforeUnmount() {
    removeEventListener("scroll", this.followButton);
    removeEventListener("resize", this.followButton);
  },
  template: `
    <div class="actions" @click.capture="ignoreRepeat" @keydown.enter.capture="ignoreRepeat">
      <button v-if="busy" type="button" class="act-first busy" aria-disabled="true"><span>{{ busy }}</span></button>
      <a v-else-if="first && target(first)" class="btn act-first" :class="{ primary: solid }" :href="target(first)" :aria-label="text(first) + ': ' + name"><span v-if="looks[first.act].in_button" class="i s" :data-icon="looks[first.act].icon" aria-hidden="true"></span><span>{{ text(first) }}</span></a>
      <button v-else-if="first" type="button" class="act-first" :class="{ primary: solid }" :aria-label="text(first) + ': ' + name" @click="press(first)"><span>{{ text(first) }}</span></button>
      <a v-if="exportOffer" class="btn" :href="target(exportOffer)"><span class="i s" :data-icon="looks[exportOffer.act].icon" aria-hidden="true"></span><span>{{ text(exportOffer) }}</span></a>
      <button v-if="rest.length" ref="opener" type="button" class="ghost opener" :aria-label="'More actions: ' + name" title="More actions" aria-haspopup="menu" :aria-expanded="menuOffers ? 'true' : 'false'" :popovertarget="menuId" @keydown.down.prevent="$refs.menu.showPopover()"><span class="i" data-icon="more_horiz" aria-hidden="true"></span></button>
      <slot name="beside"></slot>
      <div ref="menu" class="job-menu" :id="menuId" popover role="menu" :aria-label="'Actions: ' + name" @beforetoggle="fill" @toggle="empty" @keydown="move">
        <template v-for="offer in menuOffers ?? []" :key="offer.act">
          <a v-if="target(offer)" role="menuitem" tabindex="-1" :href="target(offer)" @click="choose(offer)"><span class="i" :data-icon="looks[offer.act].icon" aria-hidden="true"></span><span>{{ text(offer) }}</span></a>
          <button v-else type="button" role="menuitem" tabindex="-1" :class="{ grave: looks[offer.act].is_grave }" @click="choose(offer)"><span class="i" :data-icon="looks[offer.act].icon" aria-hidden="true"></span><span>{{ text(offer) }}</span></button>
        </template>
      </div>
      <dialog v-if="confirming" ref="question" class="question" :aria-labelledby="menuId + '-title'" :aria-describedby="menuId + '-text'" @close="confirming = null">
        <h2 :id="menuId + '-title'">{{ looks[confirming].question }}</h2>
        <p class="strong whose">{{ name }}</p>
        <p :id="menuId + '-text'">{{ question ? question.asks : "This is no longer possible: the job has changed." }}</p>
        <div class="act">
          <button type="button" data-offline @click="answer(false)">{{ question ? looks[confirming].no : "Close" }}</button>
          <button v-if="question" type="button" :class="looks[confirming].is_grave ? 'danger' : 'primary'" @click="answer(true)">{{ looks[confirming].yes }}</button>
        </div>
      </dialog>
      <span v-if="$slots.default" class="leaving">
        <slot></slot>
        <button v-if="quick" type="button" class="link quick" :aria-label="looks[quick].text + ': ' + name" @click="press({ act: quick })"><span>{{ looks[quick].text }}</span></button>
      </span>
    </div>`,
};
