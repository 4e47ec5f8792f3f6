import { copying } from "browser";

export default {
  mixins: [copying],
  props: { text: String },
  template: `
    <details class="trace">
      <summary>Stack trace</summary>
      <div><button type="button" data-offline @click="copy(text)"><span>{{ copied || "Copy" }}</span></button><pre tabindex="0">{{ text }}</pre></div>
    </details>`,
};
