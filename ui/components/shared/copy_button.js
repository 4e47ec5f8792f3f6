import { copying } from "browser";

const ICONS = { Copied: "check", "Not copied": "error_outline" };

export default {
  mixins: [copying],
  props: { value: String, label: String },
  computed: {
    text() {
      return this.copied || this.label;
    },
    icon() {
      return ICONS[this.copied] ?? "content_copy";
    },
  },
  template: `
    <button type="button" class="copy" data-offline :title="text" :aria-label="text" @click="copy(value)">
      <span class="i s" :data-icon="icon" aria-hidden="true"></span>
    </button>`,
};
