// The bell of a job: tell me when it ends. The wish is kept on the server, so all tabs of the user show it.
import { askPermission, browserState, UNASKED } from "browser_notices";
import { askToBeTold, notices } from "notices";

export default {
  props: { jobId: String, name: String, wide: Boolean },
  computed: {
    isOn() {
      return notices.wishes.has(this.jobId);
    },
    words() {
      return this.isOn ? "You are told when it ends" : "Tell me when it ends";
    },
  },
  methods: {
    press({ detail }) {
      if (detail > 1) return; // the second click of a double click
      if (!this.isOn && browserState() === UNASKED) askPermission();
      askToBeTold({ job: this.jobId, on: !this.isOn });
    },
  },
  template: `
    <button type="button" class="tell" :class="{ ghost: !wide }" data-testid="tell-me" :aria-pressed="isOn" :aria-label="'Tell me when it ends: ' + name" :title="words" @click="press">
      <span class="i" :class="{ s: wide }" :data-icon="isOn ? 'notifications_active' : 'notification_add'" aria-hidden="true"></span><span v-if="wide">{{ words }}</span>
    </button>`,
};
