import { copyText } from "browser";

const SHOWN_MS = 1500;

export default {
  props: { value: String, label: String },
  data: () => ({ copied: false }),
  computed: {
    said() {
      return this.copied ? "Copied" : this.label;
    },
  },
  methods: {
    async copy() {
      await copyText(this.value);
      this.copied = true;
      setTimeout(() => (this.copied = false), SHOWN_MS);
    },
  },
  template: `
    <button type="button" class="copy" data-offline :title="said" :aria-label="said" @click="copy">
      <span class="i s" :data-icon="copied ? 'check' : 'content_copy'" aria-hidden="true"></span>
    </button>`,
};
