// Two images on top of each other with a divider, moved by mouse, finger or keyboard; fitted or at 100 %.

export class Compare {
  #split = 0.5;
  #natural = [1, 1];

  constructor(root, label) {
    this.root = root;
    root.innerHTML = `
      <div class="view"><div class="sheet"><img class="before" alt="" draggable="false"><img class="after" alt="" draggable="false"></div></div>
      <input class="split" type="range" min="0" max="100" value="50">
      <div class="divider"><span class="grip"></span></div>
      <span class="tag left" aria-hidden="true">Before</span><span class="tag right" aria-hidden="true">After</span>
      <p class="busy" hidden></p>`;
    const find = (selector) => root.querySelector(selector);
    [this.view, this.sheet, this.before, this.after] = [".view", ".sheet", ".before", ".after"].map(find);
    [this.range, this.divider, this.grip, this.busy] = [".split", ".divider", ".grip", ".busy"].map(find);
    this.range.setAttribute("aria-label", label);
    this.range.addEventListener("input", () => this.#move(this.range.value / 100));
    this.#drag(this.view, () => !this.zoomed);
    this.#drag(this.grip, () => true);
    this.view.addEventListener("scroll", () => this.#draw());
    new ResizeObserver(() => this.layout()).observe(root);
  }

  get zoomed() {
    return this.root.classList.contains("zoomed");
  }

  // Without `after`, only `before` is shown.
  async show(before, after, name) {
    if (this.before.src !== before) this.before.src = before;
    this.before.alt = `${name}, before`;
    this.after.hidden = !after;
    for (const part of [this.divider, this.range, ...this.root.querySelectorAll(".tag")]) part.hidden = !after;
    if (after) {
      this.after.src = after;
      this.after.alt = `${name}, after`;
    }
    await this.before.decode().catch(() => {});
    this.#natural = [this.before.naturalWidth || 1, this.before.naturalHeight || 1];
    this.layout();
  }

  setStatus(text) {
    this.busy.hidden = !text;
    this.busy.textContent = text;
  }

  strength(value) {
    this.after.style.opacity = value; // on top of `before`, the same blend as the server computes
  }

  zoom(on) {
    this.root.classList.toggle("zoomed", on);
    this.layout();
    if (on) {
      this.view.scrollLeft = (this.view.scrollWidth - this.view.clientWidth) / 2;
      this.view.scrollTop = (this.view.scrollHeight - this.view.clientHeight) / 2;
    }
  }

  layout() {
    const [width, height] = this.#natural;
    const fit = Math.min(this.root.clientWidth / width, this.root.clientHeight / height, 2);
    const scale = this.zoomed ? 1 : fit;
    this.sheet.style.width = `${width * scale}px`;
    this.sheet.style.height = `${height * scale}px`;
    this.#draw();
  }

  #drag(target, allowed) {
    target.addEventListener("pointerdown", (event) => {
      if (!allowed() || event.button !== 0 || this.divider.hidden) return;
      target.setPointerCapture(event.pointerId);
      const follow = (move) => {
        const [left, width] = this.#visible();
        this.#move((move.clientX - this.root.getBoundingClientRect().left - left) / width);
      };
      follow(event);
      target.addEventListener("pointermove", follow);
      const stop = () => target.removeEventListener("pointermove", follow);
      for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, stop, { once: true });
      this.range.focus({ preventScroll: true, focusVisible: false });
      event.preventDefault();
    });
  }

  // Left, width, top and height of the visible part of the image, in pixels of the frame.
  #visible() {
    const frame = this.root.getBoundingClientRect();
    const sheet = this.sheet.getBoundingClientRect();
    const left = Math.max(0, sheet.left - frame.left);
    const top = Math.max(0, sheet.top - frame.top);
    const width = Math.min(frame.width, sheet.right - frame.left) - left;
    return [left, Math.max(1, width), top, Math.min(frame.height, sheet.bottom - frame.top) - top];
  }

  #move(split) {
    this.#split = Math.min(1, Math.max(0, split));
    this.range.value = Math.round(100 * this.#split);
    this.#draw();
  }

  #draw() {
    const [left, width, top, height] = this.#visible();
    const position = left + this.#split * width;
    const style = this.root.style;
    style.setProperty("--left", `${left}px`);
    style.setProperty("--right", `${this.root.clientWidth - left - width}px`);
    style.setProperty("--top", `${top}px`);
    style.setProperty("--bottom", `${this.root.clientHeight - top - height}px`);
    const offset = this.sheet.getBoundingClientRect().left - this.root.getBoundingClientRect().left;
    this.divider.style.left = `${position}px`;
    this.after.style.clipPath = `inset(0 0 0 ${Math.max(0, position - offset)}px)`;
    this.range.setAttribute("aria-valuetext", `${Math.round(100 * this.#split)} % before`);
  }
}
