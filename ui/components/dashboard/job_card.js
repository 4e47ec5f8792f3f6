// One job, as a card and as a row of the compact table: a change repaints its own job only.
import { clockTime, exactTime, span } from "browser";
import CopyButton from "copy_button";
import JobActions from "job_actions";

const age = (seconds) => (seconds < 1 ? "now" : `${span(seconds)} ago`);

function countdown(seconds) {
  const s = Math.ceil(seconds);
  if (s <= 0) return "leaves in a moment";
  if (s >= 3600) return `leaves in ${Math.floor(s / 3600)} h`;
  return `leaves in ${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

const facts = {
  components: { CopyButton, JobActions },
  props: ["job", "look", "stalledLook", "actions", "showOwner", "time", "contact", "place", "size"],
  emits: ["act"],
  computed: {
    page() {
      return `/jobs/${this.job.id}`;
    },
    failures() {
      return `${this.page}?show=failed`;
    },
    known() {
      return this.contact.away ? this.contact.seen : this.time.now; // away, nobody knows what has happened since
    },
    ran() {
      const { started, finished, took } = this.job;
      if (finished) return took && ` · ${took}`;
      return started ? ` · ${span((this.known - started) / 1000)}` : "";
    },
    standing() {
      return this.job.stalled ? `No progress for ${span((this.known - this.job.stalled) / 1000)}` : "";
    },
    when() {
      const { started, finished, pace } = this.job;
      if (this.standing || pace) return this.standing || pace;
      if (finished) return `ended ${clockTime(new Date(finished))}`;
      return started ? `started ${clockTime(new Date(started))}` : "";
    },
    exactly() {
      const at = this.job.finished ?? this.job.started;
      if (!at) return null;
      const since = `${this.job.finished ? "ended" : "started"} ${exactTime(new Date(at))}`;
      return [this.standing, this.job.pace, since].filter(Boolean).join(" · ");
    },
    updatedExactly() {
      return exactTime(new Date(this.job.updated));
    },
    freshness() {
      if (this.contact.away) return `${span((this.time.now - this.contact.seen) / 1000)} old`;
      if (this.job.kept) return "kept";
      if (this.job.leaves) return countdown((this.job.leaves - this.time.now) / 1000);
      const seconds = (this.time.now - this.job.updated) / 1000;
      if (this.job.status === "pending") return `queued ${age(seconds)}`;
      return this.isBrief ? age(seconds) : `updated ${age(seconds)}`;
    },
    about() {
      return `${this.job.sub}${this.ran}${this.showOwner ? ` · ${this.job.owner}` : ""}`;
    },
  },
};

const badges = `
  <span v-if="job.stalled" class="status stalled" :title="standing"><span class="i s" :data-icon="stalledLook.icon" aria-hidden="true"></span><span>{{ stalledLook.word }}</span></span>
  <span class="status" :data-status="job.status"><span class="i s" :data-icon="look.icon" aria-hidden="true"></span><span :class="{ sr: isBrief && job.stalled }">{{ look.word }}</span></span>`;

const bar = `
  <div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" :aria-valuenow="job.progress" :aria-valuetext="job.says" :aria-label="job.name">
    <i class="ok" :style="{ width: job.shares[0] + '%' }"></i>
    <i v-if="job.shares[1]" class="bad" :style="{ width: 'max(3px, ' + job.shares[1] + '%)' }"></i>
    <i v-if="job.shares[2]" class="run" :style="{ width: 'max(6px, ' + job.shares[2] + '%)' }"></i>
  </div>`;

// what assistive technology and tests find it by, whatever it looks like
const hooks = `data-testid="job-card" :data-job-id="job.id" :data-status="job.status" :data-stalled="job.stalled ? '' : null" :data-trouble="job.now.is_trouble"`;

export const JobCard = {
  mixins: [facts],
  data: () => ({ isBrief: false }),
  template: `
    <div class="card" role="listitem" ${hooks} :aria-posinset="place" :aria-setsize="size" :aria-label="job.name">
      <div class="row">
        <a class="name" :href="page" :title="job.name">{{ job.name }}</a>
        <span class="badges">
          <span v-if="job.demo" class="tag" title="Made by “Run the demo”">demo</span>${badges}
        </span>
      </div>
      <div class="sub">
        <span class="mono id" :title="job.id" :data-rest="job.id.slice(8)">{{ job.id.slice(0, 8) }}</span>
        <copy-button :value="job.id" label="Copy the job ID"></copy-button>
        <span class="rest" :title="about">· {{ about }}</span>
      </div>
      <div class="row">
        <span class="pct">{{ job.progress }}<small>%</small></span>
        <span class="count"><b>{{ job.done }}</b> / {{ job.total }}</span>
      </div>${bar}
      <div class="row facts">
        <span>{{ job.fact }}<template v-if="job.failed"> · <a class="bad" :href="failures">{{ job.failed }}</a></template></span>
        <span :class="{ standing }" :title="exactly">{{ when }}</span>
      </div>
      <div v-if="job.now.is_error" class="now err">
        <span class="i s" data-icon="error_outline" aria-hidden="true"></span>
        <span :title="job.now.text"><span class="sr">Error: </span>{{ job.now.text }}</span>
        <a class="more" :href="job.failed ? failures : page">Show</a>
      </div>
      <div v-else class="now">
        <span class="i s" :data-icon="job.now.icon" aria-hidden="true"></span>
        <span :class="{ mono: job.now.is_id, id: job.now.is_id }" :title="job.now.text">{{ job.now.text }}</span>
        <copy-button v-if="job.now.is_id" :value="job.now.text" label="Copy the video ID"></copy-button>
        <span v-if="job.error" class="badc trouble" :title="job.error"><span class="i s badc" data-icon="error_outline" aria-hidden="true"></span>Earlier error: {{ job.error }}</span>
        <span v-if="job.now.more && !job.error" class="more" :class="{ long: job.now.is_long }" :title="job.now.more">{{ job.now.more }}</span>
      </div>
      <job-actions class="foot" :job-id="job.id" :name="job.name" :offers="job.offers" :busy="job.busy" :quick="job.quick" :looks="actions" @act="$emit('act', $event)">
        <span :title="updatedExactly">{{ freshness }}</span>
      </job-actions>
    </div>`,
};

// The place of a job that has left while somebody points at the jobs: what stood beside it does not come under the pointer.
export const JobGone = {
  props: ["job", "isRow"],
  template: `
    <div class="card gone" :class="{ 'job-row': isRow }" :role="isRow ? 'row' : 'listitem'">
      <span :role="isRow ? 'cell' : null">{{ job.name }} has left the dashboard</span>
    </div>`,
};

export const COLUMN_NAMES = ["Status", "Job", "Progress", "Videos", "Now", "Updated", "Actions"];

export const JobRow = {
  mixins: [facts],
  data: () => ({ isBrief: true }), // what the row's headings say already, and the second of two badges' words, are left out
  template: `
    <div class="card job-row" role="row" ${hooks} :aria-rowindex="place + 1">
      <span class="badges" role="cell">${badges}</span>
      <span class="subject" role="cell">
        <a class="name" :href="page" :title="job.name">{{ job.name }}</a>
        <span class="sub" :title="about"><span class="mono" :title="job.id">{{ job.id.slice(0, 8) }}</span> · {{ showOwner ? job.owner + " · " : "" }}{{ job.sub }}{{ ran }}</span>
      </span>
      <span class="far" role="cell">${bar}<span class="strong">{{ job.progress }} %</span></span>
      <span class="count" role="cell"><span><b>{{ job.done }}</b> / {{ job.total }}</span><span class="facts"><a v-if="job.failed" class="bad" :href="failures">{{ job.failed }}</a></span></span>
      <span class="what" role="cell">
        <span v-if="job.now.is_error" class="badc" :title="job.now.text"><span class="i s" data-icon="error_outline" aria-hidden="true"></span> <span class="sr">Error: </span>{{ job.now.text }}</span>
        <span v-else :title="job.error ? 'Earlier error: ' + job.error : job.now.more"><span :class="{ mono: job.now.is_id }">{{ job.now.text }}</span><template v-if="job.now.more"> · {{ job.now.more }}</template></span>
        <span class="sub" :class="{ standing }" :title="exactly">{{ when }}</span>
      </span>
      <span class="age" role="cell" :title="updatedExactly">{{ freshness }}</span>
      <job-actions role="cell" :job-id="job.id" :name="job.name" :offers="job.offers" :busy="job.busy" quick="" :looks="actions" @act="$emit('act', $event)"></job-actions>
    </div>`,
};
