import { copyText } from "browser";

const SHOWN_MS = 1500;

export default {
  props: { text: String },
  data: () => ({ copied: false }),
  methods: {
    async copy() {
      await copyText(this.text);
      this.copied = true;
      setTimeout(() => (this.copied = false), SHOWN_MS);
    },
  },
  template: `
    <details class="trace">
      <summary>Stack trace</summary>
      <div><button type="button" data-offline @click="copy"><span>{{ copied ? "Copied" : "Copy" }}</span></button><pre tabindex="0">{{ text }}</pre></div>
    </details>`,
};
