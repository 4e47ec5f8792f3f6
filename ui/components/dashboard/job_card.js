// Draws one job, as a card or as a row of the compact table. A change repaints its own job only.
import { clockTime, exactTime, span } from "browser";
import CopyButton from "copy_button";
import JobActions from "job_actions";
import TellMe from "tell_me";

const age = (seconds) => (seconds < 1 ? "now" : `${span(seconds)} ago`);

function countdown(seconds) {
  const s = Math.ceil(seconds);
  if (s <= 0) return "leaves in a moment";
  if (s >= 3600) return `leaves in ${Math.floor(s / 3600)} h`;
  return `leaves in ${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

const facts = {
  components: { CopyButton, JobActions, TellMe },
  props: ["job", "look", "stalledLook", "actions", "showOwner", "time", "connection", "position", "total", "picked"],
  emits: ["act", "pick"],
  computed: {
    page() {
      return `/jobs/${this.job.id}`;
    },
    failures() {
      return `${this.page}?show=failed`;
    },
    knownUntil() {
      return this.connection.away ? this.connection.seen : this.time.now; // later changes are unknown while disconnected
    },
    duration() {
      const { started, finished, took } = this.job;
      if (finished) return took && ` · ${took}`;
      return started ? ` · ${span((this.knownUntil - started) / 1000)}` : "";
    },
    stalledFor() {
      return this.job.stalled ? `No progress for ${span((this.knownUntil - this.job.stalled) / 1000)}` : "";
    },
    // What a job does now. A waiting one says why it waits, unless its own sentence is about a machine.
    what() {
      const { now, wait } = this.job;
      if (!wait || now.is_waiting) return now;
      return { icon: "schedule", text: wait.text, more: wait.starts && `about ${clockTime(new Date(wait.starts))}` };
    },
    when() {
      const { started, finished, pace } = this.job;
      if (this.stalledFor || pace) return this.stalledFor || pace;
      if (finished) return `ended ${clockTime(new Date(finished))}`;
      return started ? `started ${clockTime(new Date(started))}` : "";
    },
    whenExactly() {
      const at = this.job.finished ?? this.job.started;
      if (!at) return null;
      const since = `${this.job.finished ? "ended" : "started"} ${exactTime(new Date(at))}`;
      return [this.stalledFor, this.job.pace, since].filter(Boolean).join(" · ");
    },
    updatedExactly() {
      return exactTime(new Date(this.job.updated));
    },
    freshness() {
      if (this.connection.away) return `${span((this.time.now - this.connection.seen) / 1000)} old`;
      if (this.job.kept) return "kept";
      if (this.job.leaves) return countdown((this.job.leaves - this.time.now) / 1000);
      const seconds = (this.time.now - this.job.updated) / 1000;
      if (this.job.status === "pending") return `queued ${age(seconds)}`;
      return this.isBrief ? age(seconds) : `updated ${age(seconds)}`;
    },
    // That a job took longer or shorter than usual stands behind its duration, in brief; the title has all of it.
    summary() {
      return this.summarised(this.job.unusual?.brief);
    },
    wholeSummary() {
      return this.summarised(this.job.unusual?.words);
    },
  },
  methods: {
    summarised(unusual) {
      return [this.job.sub + this.duration, unusual, this.showOwner && this.job.owner].filter(Boolean).join(" · ");
    },
  },
};

const badges = `
  <span v-if="job.stalled" class="status stalled" :title="stalledFor"><span class="i s" :data-icon="stalledLook.icon" aria-hidden="true"></span><span>{{ stalledLook.word }}</span></span>
  <span class="status" :data-status="job.status"><span class="i s" :data-icon="look.icon" aria-hidden="true"></span><span :class="{ sr: isBrief && job.stalled }">{{ look.word }}</span></span>`;

const bar = `
  <div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" :aria-valuenow="job.progress" :aria-valuetext="job.says" :aria-label="job.name">
    <i class="ok" :style="{ width: job.shares[0] + '%' }"></i>
    <i v-if="job.shares[1]" class="bad" :style="{ width: 'max(3px, ' + job.shares[1] + '%)' }"></i>
    <i v-if="job.shares[2]" class="run" :style="{ width: 'max(6px, ' + job.shares[2] + '%)' }"></i>
  </div>`;

const tick = `<label class="pick"><input type="checkbox" :checked="picked" :aria-label="'Select ' + job.name" @click="$emit('pick', $event)" /></label>`;

// Attributes by which tests and styles find a job in either form.
const hooks = `data-testid="job-card" :data-picked="picked ? '' : null" :data-job-id="job.id" :data-status="job.status" :data-stalled="job.stalled ? '' : null" :data-trouble="job.now.is_trouble"`;

export const JobCard = {
  mixins: [facts],
  data: () => ({ isBrief: false }),
  template: `
    <div class="card" role="listitem" ${hooks} :aria-posinset="position" :aria-setsize="total" :aria-label="job.name">
      <div class="row">
        ${tick}
        <a class="name" translate="no" :href="page" :title="job.name">{{ job.name }}</a>
        <span class="badges">
          <span v-if="job.demo" class="tag" title="Made by “Run the demo”">demo</span>${badges}
        </span>
      </div>
      <div class="sub">
        <span class="mono id" translate="no" :title="job.id" :data-rest="job.id.slice(8)">{{ job.id.slice(0, 8) }}</span>
        <copy-button :value="job.id" label="Copy the job ID"></copy-button>
        <span class="rest" :title="wholeSummary">· {{ summary }}</span>
      </div>
      <div class="row">
        <span class="pct">{{ job.progress }}<small>%</small></span>
        <span class="count"><b>{{ job.done }}</b> / {{ job.total }}</span>
      </div>${bar}
      <div class="row facts">
        <span>{{ job.fact }}<template v-if="job.failed"> · <a class="bad" :href="failures">{{ job.failed }}</a></template></span>
        <span :class="{ 'stalled-for': stalledFor }" :title="whenExactly">{{ when }}</span>
      </div>
      <div v-if="what.is_error" class="now err">
        <span class="i s" data-icon="error_outline" aria-hidden="true"></span>
        <span :title="what.text"><span class="sr">Error: </span>{{ what.text }}</span>
        <a class="more" :href="job.failed ? failures : page">Show</a>
      </div>
      <div v-else class="now" :class="{ waiting: what.is_waiting }">
        <span class="i s" :data-icon="what.icon" aria-hidden="true"></span>
        <span :class="{ mono: what.is_id, id: what.is_id }" :translate="what.is_id ? 'no' : null" :title="what.text">{{ what.text }}</span>
        <copy-button v-if="what.is_id" :value="what.text" label="Copy the video ID"></copy-button>
        <span v-if="job.error && !what.is_waiting" class="badc trouble" :title="job.error"><span class="i s badc" data-icon="error_outline" aria-hidden="true"></span>Earlier error: {{ job.error }}</span>
        <span v-if="what.more && !job.error" class="more" :class="{ long: what.is_long }" :title="what.more">{{ what.more }}</span>
      </div>
      <job-actions class="foot" :job-id="job.id" :name="job.name" :offers="job.offers" :busy="job.busy" :quick="job.quick" :looks="actions" @act="$emit('act', $event)">
        <template #beside><tell-me v-if="!job.finished" :job-id="job.id" :name="job.name"></tell-me></template>
        <template #default><span :title="updatedExactly">{{ freshness }}</span></template>
      </job-actions>
    </div>`,
};

// Keeps the place of a job that was removed while the pointer is on the jobs, so that nothing moves under the pointer.
export const RemovedJob = {
  props: ["job", "isRow"],
  template: `
    <div class="card removed" :class="{ 'job-row': isRow }" :role="isRow ? 'row' : 'listitem'">
      <span :role="isRow ? 'cell' : null">{{ job.name }} has left the dashboard</span>
    </div>`,
};

export const COLUMN_NAMES = ["Status", "Job", "Progress", "Videos", "Now", "Updated", "Actions"];

export const JobRow = {
  mixins: [facts],
  data: () => ({ isBrief: true }), // leaves out what the headings say, and the word of the second badge
  template: `
    <div class="card job-row" role="row" ${hooks} :aria-rowindex="position + 1">
      <span class="badges" role="cell">${badges}</span>
      <span class="subject" role="cell">
        ${tick}
        <a class="name" translate="no" :href="page" :title="job.name">{{ job.name }}</a>
        <span class="sub" :title="wholeSummary"><span class="mono" translate="no" :title="job.id">{{ job.id.slice(0, 8) }}</span> · {{ showOwner ? job.owner + " · " : "" }}{{ job.sub }}{{ duration }}<template v-if="job.unusual"> · {{ job.unusual.brief }}</template></span>
      </span>
      <span class="far" role="cell">${bar}<span class="strong">{{ job.progress }} %</span></span>
      <span class="count" role="cell"><span><b>{{ job.done }}</b> / {{ job.total }}</span><span class="facts"><a v-if="job.failed" class="bad" :href="failures">{{ job.failed }}</a></span></span>
      <span class="what" role="cell">
        <span v-if="what.is_error" class="badc" :title="what.text"><span class="i s" data-icon="error_outline" aria-hidden="true"></span> <span class="sr">Error: </span>{{ what.text }}</span>
        <span v-else :class="{ warn: what.is_waiting }" :title="job.error ? 'Earlier error: ' + job.error : what.more || what.text"><span :class="{ mono: what.is_id }" :translate="what.is_id ? 'no' : null">{{ what.text }}</span><template v-if="what.more"> · {{ what.more }}</template></span>
        <span class="sub" :class="{ 'stalled-for': stalledFor }" :title="whenExactly">{{ when }}</span>
      </span>
      <span class="age" role="cell" :title="updatedExactly">{{ freshness }}</span>
      <job-actions role="cell" :job-id="job.id" :name="job.name" :offers="job.offers" :busy="job.busy" quick="" :looks="actions" @act="$emit('act', $event)"><template #beside><tell-me v-if="!job.finished" :job-id="job.id" :name="job.name"></tell-me></template></job-actions>
    </div>`,
};
