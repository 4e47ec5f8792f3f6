// The bar of the ticked jobs: an action for all that it is offered for, one question before it, and what was refused.
import { count, singleKey } from "browser";
import { compareNames } from "words";

const MAX_NAMES = 5;

export default {
  // `jobs` are the ticked ones, {id, name, offers}; `actions` the looks of the actions, in their order; `matching` is the
  // number of jobs that all together match, 0 if they cannot be ticked at once.
  props: { jobs: Array, actions: Array, matching: Number },
  emits: ["act", "all", "clear"],
  data: () => ({ asking: null, running: null, result: null, isFinding: false }),
  computed: {
    offered() {
      return this.actions.map((look) => ({ ...look, jobs: this.able(look) })).filter(({ jobs }) => jobs.length);
    },
    hasMore() {
      return this.matching > this.jobs.length;
    },
    question() {
      return this.asking && this.asking.question.replace("{jobs}", this.inWords(this.asking.jobs.length));
    },
    names() {
      return this.asking.jobs.slice(0, MAX_NAMES);
    },
    left() {
      return this.jobs.length - this.asking.jobs.length;
    },
  },
  methods: {
    count,
    inWords: (number) => (number === 1 ? "1 job" : `${count(number)} jobs`),
    able({ act }) {
      return act === "export" ? this.jobs : this.jobs.filter(({ offers }) => offers.some((offer) => offer.act === act));
    },
    async press(look) {
      if (!look.question) return this.send(look);
      this.asking = look;
      await this.$nextTick();
      this.$refs.question.showModal();
    },
    answer(isYes) {
      const look = this.asking;
      this.$refs.question.close();
      if (isYes) this.send(look);
    },
    send({ act, doing, jobs }) {
      if (act !== "export") this.running = { doing, names: new Map(jobs.map(({ id, name }) => [id, name])) };
      this.$emit("act", { act, jobs: jobs.map(({ id }) => id) });
    },
    findAll() {
      this.isFinding = true;
      this.$emit("all");
    },
    found() {
      this.isFinding = false;
    },
    // `refused` are [id, sentence, name where it is not ticked]; `said` is the result in words, null if nothing was done at all.
    async finished({ said, refused }) {
      const names = this.running?.names ?? new Map();
      this.running = null;
      if (!refused.length) return;
      const told = refused.map(([id, detail, name]) => ({ id, detail, name: names.get(id) ?? name ?? id }));
      this.result = { said, refused: told.sort((a, b) => compareNames(a.name, b.name)) };
      await this.$nextTick();
      this.$refs.result.showModal();
    },
    jump(event) {
      if (singleKey(event) !== "b") return;
      const first = this.$refs.bar?.querySelector("button");
      if (!first) return;
      event.preventDefault();
      first.focus();
    },
  },
  mounted() {
    addEventListener("keydown", this.jump);
  },
  beforeUnmount() {
    removeEventListener("keydown", this.jump);
  },
  template: `
    <div class="bulk">
      <section v-if="jobs.length || running" ref="bar" class="bulk-bar" data-testid="bulk-bar" aria-label="Selected jobs">
        <p v-if="running" class="strong" role="status">{{ running.doing }} {{ inWords(running.names.size) }}…</p>
        <template v-else>
          <p><b>{{ count(jobs.length) }}</b> selected <button v-if="hasMore" type="button" class="link all" :aria-busy="isFinding" @click="findAll"><span>Select all {{ count(matching) }} that match</span></button></p>
          <div class="acts">
            <button v-for="look in offered" :key="look.act" type="button" :data-act="look.act" :class="{ grave: look.is_grave }" @click="press(look)"><span class="i s" :data-icon="look.icon" aria-hidden="true"></span><span>{{ look.text }} {{ count(look.jobs.length) }}</span></button>
            <button type="button" class="ghost" data-offline @click="$emit('clear')"><span>Clear</span></button>
          </div>
        </template>
      </section>
      <dialog v-if="asking" ref="question" class="question" aria-labelledby="bulk-title" aria-describedby="bulk-text" @close="asking = null">
        <h2 id="bulk-title">{{ question }}</h2>
        <p id="bulk-text">{{ asking.effect }}</p>
        <ul class="plain">
          <li v-for="job in names" :key="job.id" translate="no">{{ job.name }}</li>
          <li v-if="asking.jobs.length > names.length">and {{ count(asking.jobs.length - names.length) }} more</li>
        </ul>
        <p v-if="left" class="muted small">{{ left === 1 ? "1 selected job is" : count(left) + " selected jobs are" }} left out: this cannot be done with {{ left === 1 ? "it" : "them" }} now.</p>
        <div class="act">
          <button type="button" data-offline @click="answer(false)">{{ asking.no }}</button>
          <button type="button" :class="asking.is_grave ? 'danger' : 'primary'" @click="answer(true)">{{ asking.yes }} {{ count(asking.jobs.length) }}</button>
        </div>
      </dialog>
      <dialog v-if="result" ref="result" class="question" aria-labelledby="bulk-result" data-testid="bulk-result" @close="result = null">
        <h2 id="bulk-result">{{ result.said ? result.said + ", " : "" }}{{ result.refused.length === 1 ? "1 job was refused" : count(result.refused.length) + " jobs were refused" }}</h2>
        <ul class="refusals" tabindex="0" aria-label="Refused jobs">
          <li v-for="job in result.refused" :key="job.id"><a translate="no" :href="'/jobs/' + job.id">{{ job.name }}</a> <span class="muted">{{ job.detail }}</span></li>
        </ul>
        <div class="act"><button type="button" class="primary" data-offline @click="$refs.result.close()">Close</button></div>
      </dialog>
    </div>`,
};
