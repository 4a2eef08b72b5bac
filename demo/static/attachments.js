// The images of the message being written: each is uploaded at once, and its chip shows when the upload is complete.

export class Attachments {
  constructor(list, headers, { changed, failed }) {
    Object.assign(this, { list, headers, changed, failed });
    this.items = [];
  }

  get uploading() {
    return this.items.some((item) => !item.id);
  }

  get ids() {
    return this.items.map((item) => item.id);
  }

  add(files) {
    for (const file of files) this.upload(file);
  }

  async upload(file) {
    const item = { id: null, chip: this.newChip(file), controller: new AbortController() };
    this.items.push(item);
    this.changed();
    try {
      const headers = { ...this.headers, "Content-Type": file.type };
      const response = await fetch("/api/images", { method: "POST", headers, body: file, signal: item.controller.signal });
      const data = await response.json();
      if (!response.ok) throw new Error(data.message);
      item.id = data.id;
      item.chip.dataset.state = "ready";
    } catch (error) {
      if (!this.items.includes(item)) return;
      this.drop(item);
      this.failed(error.message);
    }
    this.changed();
  }

  newChip(file) {
    const chip = document.createElement("span");
    chip.className = "attachment";
    chip.dataset.testid = "attachment";
    chip.dataset.state = "uploading";
    const picture = document.createElement("img");
    picture.alt = "";
    picture.src = URL.createObjectURL(file);
    picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
    const size = document.createElement("span");
    size.textContent = `${file.type.replace("image/", "")}, ${file.size} bytes`;
    chip.append(picture, size);
    this.list.append(chip);
    return chip;
  }

  drop(item) {
    item.controller.abort();
    item.chip.remove();
    this.items = this.items.filter((other) => other !== item);
  }

  // Moves the chips out of the composer; the caller adds them to the message.
  take() {
    const chips = this.items.map((item) => item.chip);
    for (const chip of chips) delete chip.dataset.testid;
    this.items = [];
    return chips;
  }

  clear() {
    for (const item of [...this.items]) this.drop(item);
  }
}
